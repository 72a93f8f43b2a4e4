// ONNX Runtime as a contender of `make bench`; test/bench/bench_nets.c describes what is said.
//
//     node peer_onnxruntime.js MODEL THREADS NAME=FILE.npy...
//
// NODE_PATH names the folder that holds onnxruntime-node.  Its call costs some 10 us, measured
// with LeNet-5, which takes 25 us altogether.
'use strict';

const fs = require('fs');
const path = require('path');
const readline = require('readline');

// Reads a little-endian f4 array as numpy.save() writes it.
function readNpy(file) {
    const bytes = fs.readFileSync(file);
    const headerEnd = 10 + bytes.readUInt16LE(8);
    const header = bytes.toString('latin1', 10, headerEnd);
    const shape = header.match(/'shape': \(([^)]*)\)/)[1];
    if (!header.includes("'<f4'"))
        throw new Error(`${file}: not an array of f4`);
    return {
        dims: shape.split(',').filter((s) => s.trim()).map(Number),
        values: new Float32Array(bytes.buffer.slice(bytes.byteOffset + headerEnd,
                                                    bytes.byteOffset + bytes.length)),
    };
}

async function open(model, threads, inputs) {
    const ort = require('onnxruntime-node');
    const session = await ort.InferenceSession.create(model, {
        intraOpNumThreads: threads,
        interOpNumThreads: 1,
        executionMode: 'sequential',
        graphOptimizationLevel: 'all',
        logSeverityLevel: 3,
    });
    const feeds = {};
    for (const input of inputs) {
        const at = input.indexOf('=');
        const { dims, values } = readNpy(input.slice(at + 1));
        feeds[input.slice(0, at)] = new ort.Tensor('float32', values, dims);
    }
    return { session, feeds, version: ort.env.versions.node };
}

async function run({ session, feeds }, runs) {
    const ms = [];
    for (let i = 0; i < runs; i++) {
        const start = process.hrtime.bigint();
        await session.run(feeds);
        ms.push(Number(process.hrtime.bigint() - start) / 1e6);
    }
    return `ms ${ms.map((t) => t.toFixed(4)).join(' ')}`;
}

async function answer({ session, feeds }, dir) {
    const outputs = await session.run(feeds);
    session.outputNames.forEach((name, i) => {
        fs.writeFileSync(path.join(dir, `${i}.f32`), Float32Array.from(outputs[name].data));
    });
    return `done ${session.outputNames.length}`;
}

async function main() {
    const [model, threads, ...inputs] = process.argv.slice(2);
    const contender = await open(model, Number(threads), inputs);
    console.log(`ready ONNX Runtime ${contender.version}`);
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const [verb, value] = line.split(/ (.*)/);
        if (verb !== 'run' && verb !== 'answer')
            throw new Error(`'${line}' is neither run N nor answer DIR`);
        console.log(await (verb === 'run' ? run(contender, Number(value))
                                          : answer(contender, value)));
    }
}

main().catch((error) => {
    console.log(`failed ${String(error.message).split('\n')[0]}`);
    process.exitCode = 1;
});
