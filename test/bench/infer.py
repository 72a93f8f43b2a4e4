"""A client of splitd's HTTP API that measures: used by peer_daemons.py, and by scripts/bench-cluster
as a program inside the client's namespace.

    infer.py URL

reads one request per line from standard input and answers each with one line, both JSON:

    {"wait": S}                                       until the cluster is ready, at most S seconds
    {"model": M, "picture": FILE, "runs": N}          -> {"ms": [...]}, what the client saw
    {"model": M, "picture": FILE, "figures": N}       -> {"nodes": [[...], ...]}, for each of N runs the
                                                      figures of all nodes, as /splitd/status has them
"""
import http.client
import json
import pathlib
import sys
import time
import urllib.parse


class Client:
    def __init__(self, url, timeout_s=600):
        self.connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc,
                                                     timeout=timeout_s)

    def call(self, method, path, body=None, headers=None):
        """(body, Inference-Header-Content-Length or None)"""
        self.connection.request(method, path, body, headers or {})
        response = self.connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise OSError(f"{method} {path}: {response.status} {content[:300].decode()}")
        length = response.getheader("Inference-Header-Content-Length")
        return content, length and int(length)

    def status(self):
        return json.loads(self.call("GET", "/splitd/status")[0])

    def wait_until_ready(self, seconds):
        """Until every node is up and every model is ready; TimeoutError with what is missing."""
        end = time.monotonic() + seconds
        missing = "it does not listen"
        while time.monotonic() < end:
            try:
                status = self.status()
                missing = ", ".join([n["name"] for n in status["nodes"] if not n["up"]] +
                                    [m["name"] + (f" ({m['problem']})" if m["problem"] else "")
                                     for m in status["models"] if not m["ready"]])
                if not missing:
                    return
            except OSError:
                self.connection.close()
            time.sleep(0.05)
        raise TimeoutError(f"the cluster is not ready after {seconds} s: {missing}")

    def infer(self, model, body, headers):
        return self.call("POST", f"/v2/models/{model}/infer", body, headers)

    def figures(self, model):
        """What every node did for the last frame of a model."""
        return [{**figures, "name": node["name"]} for node in self.status()["nodes"]
                for figures in node["models"] if figures["model"] == model]


def tensors_request(inputs):
    """Body and headers for {name: array of f4}, binary in and out."""
    tensors = [{"name": name, "shape": list(values.shape), "datatype": "FP32",
                "parameters": {"binary_data_size": values.nbytes}}
               for name, values in inputs.items()]
    head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    body = head + b"".join(values.astype("<f4").tobytes() for values in inputs.values())
    return body, {"Inference-Header-Content-Length": str(len(head)),
                  "Content-Type": "application/octet-stream"}


def picture_request(client, model, file):
    """Outputs in binary: printing their numbers would take longer than computing some of them."""
    picture = pathlib.Path(file).read_bytes()
    name = json.loads(client.call("GET", f"/v2/models/{model}")[0])["inputs"][0]["name"]
    element = len(picture).to_bytes(4, "little") + picture
    head = json.dumps({"inputs": [{"name": name, "shape": [1], "datatype": "BYTES",
                                   "parameters": {"binary_data_size": len(element)}}],
                       "parameters": {"binary_data_output": True}}).encode()
    return head + element, {"Inference-Header-Content-Length": str(len(head)),
                            "Content-Type": "application/octet-stream"}


def measure(client, model, picture, runs):
    body, headers = picture_request(client, model, picture)
    ms = []
    for _ in range(runs):
        start = time.perf_counter()
        client.infer(model, body, headers)
        ms.append((time.perf_counter() - start) * 1e3)
    return {"ms": ms}


def collect_figures(client, model, picture, runs):
    body, headers = picture_request(client, model, picture)
    nodes = []
    for _ in range(runs):
        client.infer(model, body, headers)
        nodes.append(client.figures(model))
    return {"nodes": nodes}


def obey(client, wait=None, model=None, picture=None, runs=None, figures=None):
    if wait:
        client.wait_until_ready(wait)
        return {}
    if runs:
        return measure(client, model, picture, runs)
    return collect_figures(client, model, picture, figures)


def main():
    client = Client(sys.argv[1])
    for line in sys.stdin:
        try:
            answer = obey(client, **json.loads(line))
        except (OSError, TimeoutError, http.client.HTTPException) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
