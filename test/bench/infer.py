"""A client of splitd's HTTP API that measures: used by peer_daemons.py, and by scripts/bench-cluster
as a program inside the client's namespace.

    infer.py URL

reads one request per line from standard input and answers each with one line, both JSON:

    {"wait": S}                                       until the cluster is ready, at most S seconds
    {"model": M, "picture": FILE, "runs": N}          -> {"ms": [...]}, what the client saw
    {"model": M, "picture": FILE, "figures": N}       -> {"nodes": [[...], ...]}, for each of N runs the
                                                      figures of all nodes, as /splitd/status has them
"""
import json
import pathlib
import select
import socket
import sys
import time
import urllib.parse


class Client:
    """One connection.  Python's http.client takes longer to read a head than some networks to run, and
    sends head and body one after the other."""

    def __init__(self, url, timeout_s=600):
        where = urllib.parse.urlsplit(url)
        self.address, self.timeout_s = (where.hostname, where.port), timeout_s
        self.socket, self.buffer = None, bytearray(1 << 16)

    def connect(self):
        self.socket = socket.create_connection(self.address, self.timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def is_open(self):
        """False, too, if the server has ended a connection that had nothing to do for a while."""
        return self.socket is not None and not select.select([self.socket], [], [], 0)[0]

    def close(self):
        if self.socket:
            self.socket.close()
        self.socket = None

    def send(self, head, body):
        parts = [memoryview(head), memoryview(body)]
        while parts:
            sent = self.socket.sendmsg(parts)
            while parts and sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            if parts:
                parts[0] = parts[0][sent:]

    def receive(self, have, need):
        """Bytes in the buffer, at least `need`."""
        if need > len(self.buffer):
            self.buffer.extend(bytes(need - len(self.buffer)))
        with memoryview(self.buffer) as room:
            while have < need:
                more = self.socket.recv_into(room[have:])
                if not more:
                    raise ConnectionError("the server ended the connection")
                have += more
        return have

    def receive_head(self):
        """(status, {name in small letters: value}, where the content begins, bytes in the buffer)"""
        have, end = 0, -1
        while end < 0:
            have = self.receive(have, have + 1)
            end = self.buffer.find(b"\r\n\r\n", 0, have)
        status, *lines = self.buffer[:end].decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines)
        return (int(status.split()[1]), {name.lower(): value.strip() for name, _, value in fields},
                end + 4, have)

    def exchange(self, head, body):
        self.send(head, body)
        status, fields, start, have = self.receive_head()
        end = start + int(fields["content-length"])
        self.receive(have, end)
        if fields.get("connection", "").lower() == "close":
            self.close()
        return status, fields, bytes(memoryview(self.buffer)[start:end])

    def call(self, method, path, body=b"", headers=None):
        """(body, Inference-Header-Content-Length or None)"""
        fields = {"Host": self.address[0], "Content-Length": len(body), **(headers or {})}
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items())
        if not self.is_open():
            self.close()
            self.connect()
        try:
            status, fields, content = self.exchange(f"{head}\r\n".encode(), body)
        except (OSError, ValueError, LookupError) as error:
            self.close()
            raise ConnectionError(f"{method} {path}: {error or 'no HTTP'}") from error
        if status != 200:
            raise OSError(f"{method} {path}: {status} {content[:300].decode()}")
        length = fields.get("inference-header-content-length")
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
                pass
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
        except OSError as error:  # also TimeoutError
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
