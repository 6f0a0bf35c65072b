"""What MLflow has an exported model do: pictures in, labels out.

MLflow copies this file into the model and imports it there, without anything else of this project: no pickle.
"""

import json

import numpy as np
import numpy.typing as npt
import onnxruntime
import pandas as pd


class ExportedViT:
    """An ONNX file that `export` has written.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.class_names: list[str] = json.loads(self.session.get_modelmeta().custom_metadata_map["class_names"])

    def predict(self, pictures: npt.NDArray[np.uint8], params: object = None) -> pd.DataFrame:
        """Label, confidence and each class's probability, a row a picture.

        Args:
            pictures: As bytes, (B, height, width, 3), all of one size, which may be any.
            params: Not used; MLflow hands it on.
        """
        del params
        probabilities = self.session.run(["probabilities"], {"images": pictures})[0]
        table = pd.DataFrame(probabilities, columns=[f"probability_{name}" for name in self.class_names])
        table.insert(0, "label", [self.class_names[index] for index in probabilities.argmax(axis=1)])
        table.insert(1, "confidence", probabilities.max(axis=1))
        return table


def _load_pyfunc(path: str) -> ExportedViT:
    """What MLflow calls."""
    return ExportedViT(path)
