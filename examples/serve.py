"""Serve an ONNX file over HTTP; the server needs ONNX Runtime and NumPy, neither TensorFlow nor reszoo.

`python serve.py model.onnx 8000` serves a file; `curl --data-binary @images.npy http://127.0.0.1:8000` asks it.
Without arguments, it deploys a small network, serves it, asks for two images and ends.
"""

import io
import json
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

LIMIT = 64 << 20


def server(file, port):
    """Returns a server that answers an .npy array of images with the probabilities of all classes, as JSON."""
    session = onnxruntime.InferenceSession(file)
    (tensor,) = session.get_inputs()
    names = session.get_modelmeta().custom_metadata_map["labels"].splitlines()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            try:
                size = int(self.headers.get("Content-Length", 0))
                if not 0 < size <= LIMIT:
                    raise ValueError(f"{size} bytes; expected 1 to {LIMIT}")
                images = np.load(io.BytesIO(self.rfile.read(size)), allow_pickle=False)
                rows = session.run(["probabilities"], {tensor.name: images})[0].astype(float)
                status, content = 200, [dict(zip(names, row, strict=True)) for row in rows]
            except Exception as error:
                status, content = 400, {"error": str(error), "expected": f"{tensor.type} {tensor.shape}"}
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


try:
    import onnxruntime
except ImportError:
    print("This example needs ONNX Runtime: pip install 'reszoo[onnx]'")
    sys.exit()
if len(sys.argv) == 3:
    server(sys.argv[1], int(sys.argv[2])).serve_forever()
import reszoo  # noqa: E402  (the server runs without it)

model = reszoo.resnet20_cifar(depths=1, width_multiplier=0.5, classes=2)
scaling = reszoo.Preprocessing(resize=32, crop=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
print(reszoo.deploy(model, "onnx", "pets.onnx", preprocessing=scaling, labels=["cat", "dog"], overwrite=True))
with server("pets.onnx", 0) as running:
    threading.Thread(target=running.serve_forever, daemon=True).start()
    np.save(images := io.BytesIO(), np.zeros((2, 32, 32, 3), "uint8"))
    print(urllib.request.urlopen(f"http://127.0.0.1:{running.server_port}", images.getvalue()).read().decode())
    running.shutdown()
