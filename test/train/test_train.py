"""See run.sh."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parents[1] / "scripts/train"))
import codec  # noqa: E402
import finetune  # noqa: E402
import halo  # noqa: E402
import halo_file  # noqa: E402
import nets  # noqa: E402
import superres  # noqa: E402

SPLITCTL = pathlib.Path(sys.argv.pop(1)).resolve() / "splitctl"
DEMO = pathlib.Path("conf/demo")
EXACT = 2e-6     # of the largest value: the order of sums
ROUNDING = 0.5   # of what a mode does: a value beside the border of two levels may take the other


def rms(x):
    return x.square().mean().sqrt().item()


class Folder(unittest.TestCase):
    """Tests that write files."""

    def setUp(self):
        kept = tempfile.TemporaryDirectory()
        self.addCleanup(kept.cleanup)
        self.folder = pathlib.Path(kept.name)

    def splitctl(self, *arguments):
        done = subprocess.run([SPLITCTL, *map(str, arguments)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def answer(self, model, picture, nodes, mode, policy="exchange"):
        """What splitctl makes of it, and the bytes that nodes send each other."""
        said = self.splitctl("run", model, picture, "--raw", "-o", self.folder / "out", "--json",
                             "--local", nodes, "--halo", mode, "--policy", policy)
        file, = (self.folder / "out").glob("*.npy")
        found = torch.from_numpy(np.load(file))
        file.unlink()
        return found, sum(n["halo_sent_bytes"] for n in json.loads(said)["nodes"])


class AgainstSplitctl(Folder):
    """The simulation computes what splitctl computes."""

    def compare(self, net, model, x, file, nodes, policy="exchange"):
        tape = halo.Tape(net, x)
        whole = net(x)
        for mode in codec.MODES:
            with self.subTest(net=type(net).__name__, nodes=nodes, mode=mode, policy=policy):
                plan = halo.read_plan(SPLITCTL, model, x.shape, nodes, mode, policy)
                counter = codec.Codec(mode, halo_file.read(model, plan), count=True)
                split = halo.Split(tape, plan, model)(x, counter)
                real, sent = self.answer(model, file, nodes, mode, policy)
                done = rms(split - whole)
                if mode == "f32":
                    self.assertLess((split - whole).abs().max(), EXACT * whole.abs().max())
                self.assertLess(rms(split - real), ROUNDING * done + EXACT * rms(whole))
                counted = sum(t.bytes for t in counter.traffic.values())
                exact = sum(m["bytes"] for e in plan["operators"] for m in e["messages"]
                            if e["type"] == "Partial" or e["dim"][0] == 1)
                self.assertAlmostEqual(counted + exact, sent,
                                       delta=0.002 * sent if mode == "tq" else 0)

    def calibrate(self, net, model, x):
        """Writes a halo file with rather coarse steps."""
        args = finetune.parse_arguments([str(HERE / "tiny_task.py"), "--splitctl", str(SPLITCTL),
                                         "--ratio", "12"])
        network = finetune.Network(net, model, args)
        plan = network.split(x, 4).plan
        found = finetune.calibrate([network.split(x, 4)], x, args)
        halo_file.write(halo_file.beside(model), model, 4, "12x", {
            "inputs": 1, "bytes": 0, "dense_bytes": 0, "error": 0, "agreement": None,
            "drop": None, "drop_error": None},
            [halo_file.Tensor(e, i, found[e["tensor"]], 0, 0)
             for i, e in enumerate(plan["operators"])
             if e["tensor"] in found and e["type"] != "Partial"])

    def test_networks(self):
        for kind in nets.ALL:
            net, x = nets.make(kind), torch.randn(kind.shape)
            model, file = self.folder / "net.onnx", self.folder / "x.npy"
            torch.onnx.export(net, x, str(model), opset_version=13)
            np.save(file, x.numpy())
            self.calibrate(net, model, x)
            for nodes in (1, 2, 4, 7):
                with torch.no_grad():
                    self.compare(net, model, x, file, nodes)

    def test_demo(self):
        task = superres.Task()
        model = self.folder / "superres.onnx"
        for end in ("onnx", "json"):
            (self.folder / f"superres.{end}").write_bytes((DEMO / f"superres.{end}").read_bytes())
        self.calibrate(task.network(), model, task.example())
        for nodes in (2, 4, 8):
            for policy in ("exchange", "auto", "recompute"):
                with torch.no_grad():
                    self.compare(task.network().eval(), model, task.example(),
                                 DEMO / "dogs.png", nodes, policy)


class Codecs(unittest.TestCase):
    def test_gamma_lengths(self):
        """Against the codes written one by one."""
        torch.manual_seed(0)
        for i in range(50):
            levels = (torch.randn(4, 3, 2, 7) * 3 * torch.rand(())).trunc()
            levels[0] *= i % 2
            self.assertEqual(codec.gamma_lengths(levels, i % 3 == 0).tolist(),
                             [gamma_length(m.flatten().int().tolist(), i % 3 == 0)
                              for m in levels])

    def test_quantizer(self):
        q = codec.Quantizer(step=0.5, threshold=0.3, gain=1.25, with_sign=True,
                            rest=torch.tensor([0.25]))
        x = torch.tensor([0.29, 0.31, 0.79, 0.81, -0.31, 0]).view(1, 1, 1, -1)
        self.assertEqual(q.levels(x).flatten().tolist(), [0, 1, 1, 2, -1, 0])
        want = [0.25, 0.25 + 0.625 * 1.1, 0.25 + 0.625 * 1.1, 0.25 + 0.625 * 2.1,
                0.25 - 0.625 * 1.1, 0.25]
        torch.testing.assert_close(q.values(q.levels(x)).flatten(), torch.tensor(want))
        q.soft = True
        torch.testing.assert_close(q.values(q.levels(x)).flatten()[3], torch.tensor(0.25 + 0.9375))
        q.with_sign = False
        self.assertEqual(q.levels(x).flatten().tolist(), [0, 1, 1, 2, 0, 0])

    def test_gradients(self):
        """Pass where something arrives, and nowhere else."""
        x = torch.tensor([[0.1, 2.0, 3.0]]).view(1, 1, 1, 3).requires_grad_()
        border = torch.full_like(x, 7.0, requires_grad=True)
        q = {"t": codec.Quantizer(step=1.0, threshold=0.6, gain=1.0, with_sign=False)}
        for share, to_x, to_border in ((0, [0, 1, 1], None), (1, [0, 0, 0], [1, 1, 1])):
            x.grad = border.grad = None
            codec.Codec("tq", q, share)(x, "t", border).sum().backward()
            self.assertEqual(x.grad.flatten().tolist(), to_x)
            self.assertEqual(border.grad if border.grad is None else
                             border.grad.flatten().tolist(), to_border)

    def test_loss(self):
        """Of whole messages, picture by picture."""
        x, border = torch.ones(2000, 2, 1, 3), torch.zeros(2000, 2, 1, 3)
        got = codec.Codec("f32", loss=0.3, random=torch.Generator().manual_seed(1))(x, "t", border)
        of_picture = got.flatten(1).mean(1)
        self.assertEqual(set(of_picture.tolist()), {0.0, 1.0})
        self.assertAlmostEqual(of_picture.mean().item(), 0.7, delta=0.05)


def gamma_length(levels, with_sign):
    bits = zeros = 0
    for level in levels:
        if level == 0:
            zeros += 1
            continue
        bits += len(gamma(zeros + 1)) + len(gamma(abs(level))) + with_sign
        zeros = 0
    if zeros > 0:
        bits += len(gamma(zeros + 1))
    return min(1 + -(-bits // 8), 1 + 2 * len(levels))


def gamma(number):
    binary = bin(number)[2:]
    return "0" * (len(binary) - 1) + binary


class Refusals(unittest.TestCase):
    def test_training_mode(self):
        with self.assertRaisesRegex(ValueError, "eval"):
            halo.Tape(nets.Residual(), torch.randn(nets.Residual.shape))

    def test_what_is_not_simulated(self):
        class Flipped(torch.nn.Module):
            def forward(self, x):
                return x[:, :, ::2]

        net = Flipped().eval()
        x = torch.randn(1, 3, 8, 8)
        with tempfile.TemporaryDirectory() as folder:
            file = f"{folder}/net.onnx"
            torch.onnx.export(net, x, file, opset_version=13)
            with self.assertRaisesRegex(halo.Unsupported, "__getitem__ from"):
                halo.Split(halo.Tape(net, x), halo.read_plan(SPLITCTL, file, x.shape, 2), file)

    def test_plan_of_no_model(self):
        with self.assertRaisesRegex(RuntimeError, "none.onnx"):
            halo.read_plan(SPLITCTL, "none.onnx", (1, 3, 8, 8), 2)


class FineTuning(Folder):
    """The command, on a network and pictures of seconds."""

    def run_it(self, out, *more):
        return subprocess.run(
            [sys.executable, "-W", "ignore", "scripts/train/finetune.py", HERE / "tiny_task.py",
             "--out", self.folder / out, "--splitctl", SPLITCTL, "--steps", "30", "--batch", "8",
             "--nodes", "2,3", "--ratio", "10", "--rate", "0.003", *more],
            capture_output=True, text=True)

    def test_from_begin_to_end(self):
        done = self.run_it("a.onnx")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"\| 3 nodes, `tq`, 10 % of the messages lost \| [0-9.]+x / ")
        self.assertRegex(done.stdout, r"\| 2 nodes, `drop` \|  \| [0-9.]+ \([-+]")

        # What it has trained is what the file computes.
        import tiny_task
        task = tiny_task.Task()
        net = task.network().eval()
        before = {k: v.clone() for k, v in net.state_dict().items()}
        net.load_state_dict(torch.load(self.folder / "a.pt")["net"])
        self.assertFalse(all(torch.equal(v, before[k]) for k, v in net.state_dict().items()))
        x = task.example()
        np.save(self.folder / "x.npy", x.numpy())
        np.save(self.folder / "y.npy", net(x).detach().numpy())
        self.splitctl("compare", self.folder / "a.onnx", "--input", self.folder / "x.npy",
                      "--expect", self.folder / "y.npy", "--local", 2)

        # In pieces it comes to the same.
        for _ in range(200):
            piece = self.run_it("b.onnx", "--seconds", "0.5")
            if piece.returncode != 3:
                break
        self.assertEqual(piece.returncode, 0, piece.stderr)
        self.assertEqual((self.folder / "a.onnx").read_bytes(),
                         (self.folder / "b.onnx").read_bytes())
        self.assertEqual(done.stdout.split("\n\n")[1], piece.stdout.split("\n\n")[1])

        # A run with other settings is not mixed with it.
        other = self.run_it("a.onnx", "--seed", "2")
        self.assertEqual(other.returncode, 1)
        self.assertIn("is of a run with seed 1, not 2", other.stderr)

    def test_usage(self):
        for arguments, says in (((), "required: task"), (("none.py",), "none.py is missing"),
                                ((HERE / "tiny_task.py", "--loss", "2"), "shares from 0 to 1"),
                                ((HERE / "tiny_task.py", "--nodes", "0"), "1 to 16 nodes"),
                                ((HERE / "tiny_task.py", "--nodes", "x"), "invalid"),
                                ((HERE / "tiny_task.py", "--splitctl", "/none"), "run make")):
            with self.subTest(says):
                done = subprocess.run([sys.executable, "scripts/train/finetune.py", *arguments],
                                      capture_output=True, text=True)
                self.assertEqual(done.returncode, 2)
                self.assertIn(says, done.stderr)


if __name__ == "__main__":
    torch.set_num_threads(1)
    result = unittest.main(exit=False, verbosity=1).result
    bad = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - bad} passed, {bad} failed")
    sys.exit(bad > 0)
