// Decodes pictures and runs the model on them, one after another, beside the page.
import * as ort from "./ort.wasm.bundle.min.mjs";

// Pixels and the longer side at most: a canvas has no room for more everywhere, nor a phone's memory. What is larger is
// reduced first; the model does so in any case, in one step in place of two. On pictures of 12 to 28 million pixels that
// changed a probability by 0.003 at most.
const MOST_PIXELS = 4_000_000;
const LONGEST = 16_384;

ort.env.logLevel = "error";
ort.env.wasm.numThreads = 1; // more need headers that a plain file server does not send
ort.env.wasm.wasmPaths = { wasm: new URL("./ort-wasm-simd-threaded.wasm", import.meta.url).href };

let session;
let queue = Promise.resolve();
onmessage = ({ data }) => {
  queue = queue.then(() => (data.model ? start(data.model) : answer(data)));
};

async function start(model) {
  try {
    session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
    postMessage({ ready: true });
  } catch (error) {
    postMessage({ failed: String(error.message ?? error) });
  }
}

async function answer({ id, file }) {
  try {
    const { canvas, width, height } = await decoded(file);
    const input = new ort.Tensor("uint8", bytes(canvas), [1, canvas.height, canvas.width, 3]);
    const { probabilities } = await session.run({ images: input }, ["probabilities"]);
    const reduced = canvas.width < width || canvas.height < height ? [canvas.width, canvas.height] : null;
    const thumbnail = small(canvas);
    postMessage({ id, width, height, reduced, probabilities: [...probabilities.data], thumbnail }, [thumbnail]);
  } catch (error) {
    postMessage({ id, wrong: error instanceof NoPicture ? error.message : `The model gave no answer: ${error.message ?? error}` });
  }
}

class NoPicture extends Error {}

/** The picture upright on white, its colours as they are stored, as `predict` reads it. */
async function decoded(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new NoPicture(await reason(file));
  }
  const { width, height } = bitmap;
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)), LONGEST / Math.max(width, height));
  const sides = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = painted(bitmap, ...sides);
  bitmap.close();
  return { canvas, width, height };
}

/** Why a file is no picture, in words. */
async function reason(file) {
  let head;
  try {
    head = new TextDecoder("latin1").decode(await file.slice(0, 12).arrayBuffer());
  } catch {
    return "It cannot be read; is it a folder? Give the pictures in it.";
  }
  if (!head) return "The file is empty.";
  if (head.startsWith("II*\0") || head.startsWith("MM\0*")) return "It is a TIFF, which browsers do not read; convert it to JPEG or PNG.";
  if (/^.{4}ftyp(hei|hev|mif|msf)/s.test(head)) return "It is a HEIC picture, which this browser does not read; convert it to JPEG or PNG.";
  if (/^(\xff\xd8\xff|\x89PNG|GIF8|RIFF|BM)/.test(head)) return "It is damaged, or too large for this browser.";
  return "It is no picture that a browser reads (JPEG, PNG, WebP, GIF or BMP).";
}

function painted(source, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  return canvas;
}

/** Red, green and blue of every pixel, row by row. */
function bytes(canvas) {
  const rgba = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    rgb[to++] = rgba[from];
    rgb[to++] = rgba[from + 1];
    rgb[to++] = rgba[from + 2];
  }
  return rgb;
}

/** A picture of a few hundred pixels to show. */
function small(canvas) {
  const scale = Math.min(1, 400 / Math.max(canvas.width, canvas.height));
  const sides = [canvas.width, canvas.height].map((side) => Math.max(1, Math.round(side * scale)));
  return painted(canvas, ...sides).transferToImageBitmap();
}
