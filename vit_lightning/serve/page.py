"""The page that tells what can be asked: one file, which loads nothing from anywhere."""

from collections.abc import Mapping
from html import escape
from typing import Any

HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ max-width: 46rem; margin: 2rem auto; padding: 0 1rem }}
code {{ font: 0.9em ui-monospace, monospace }}
h2 {{ font-size: 1.1rem; margin: 2rem 0 0.3rem }}
td {{ padding-right: 1rem; vertical-align: top }}
p {{ margin: 0.3rem 0 }}
</style><h1>{title}</h1><p>{about}</p>
<p>For programs: <a href="openapi.json"><code>/openapi.json</code></a>.</p>
"""


def page_of(openapi: Mapping[str, Any]) -> str:
    """The page.

    Args:
        openapi: What FastAPI knows of the application.
    """
    info = openapi["info"]
    parts = [HEAD.format(title=escape(info["title"]), about=escape(info["description"]))]
    for path, methods in openapi["paths"].items():
        for method, told in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts += [f"<p>{escape(text)}</p>" for text in told.get("description", "").split("\n\n")]
            rows = [(f"?{each['name']}=", each.get("description", "")) for each in told.get("parameters", [])]
            rows += [(status, answer["description"]) for status, answer in told["responses"].items()]
            cells = (f"<tr><td><code>{escape(name)}</code><td>{escape(text)}" for name, text in rows)
            parts.append(f"<table>{''.join(cells)}</table>")
    return "\n".join(parts)
