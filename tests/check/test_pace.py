"""What is said of time."""

from vit_lightning.check.pace import Pace, duration


def test_times_are_said_in_the_unit_that_suits_them() -> None:
    assert [duration(seconds) for seconds in (4, 89, 90, 600, 5400)] == [
        *("4 s", "89 s", "2 minutes", "10 minutes", "1.5 hours")
    ]
    pace = Pace(steps=100, batches=100, batch=0.5, validations=20, validation=0.5, images=32)
    assert pace.finding().text == "64 images/s in training; 100 steps and validation take about 60 s"
