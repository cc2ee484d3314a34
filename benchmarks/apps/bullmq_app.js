// BullMQ: `node bullmq_app.js worker CONCURRENCY`, or `node bullmq_app.js TASK MODE COUNT` as benchmarks/produce.py.
const fs = require('fs');
const { Queue, Worker } = require('bullmq');

const url = new URL(process.env.BENCH_URL);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
const results = process.env.BENCH_RESULTS === '1';
const file = process.env.BENCH_RECORD;
const ENTRY_BYTES = 24;
const now = () => Number(process.hrtime.bigint()) / 1e9; // the monotonic clock that the other processes read as well
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const ran = () => fs.statSync(file).size / ENTRY_BYTES;

// One entry of benchmarks/record.py.
const entry = Buffer.alloc(ENTRY_BYTES);
entry.writeBigUInt64LE(BigInt(process.pid), 8);
let descriptor;
function record(number) {
  descriptor ??= fs.openSync(file, 'a');
  entry.writeBigUInt64LE(BigInt(number), 0);
  entry.writeDoubleLE(now(), 16);
  fs.writeSync(descriptor, entry);
}

function work(concurrency) {
  const worker = new Worker('benchmarks', async (job) => {
    record(job.data.number);
    return results ? job.data.number : undefined;
  }, { connection, concurrency });
  worker.on('error', (error) => console.error(error));
  process.on('SIGTERM', () => worker.close(true).then(() => process.exit(0)));
}

async function oneAtATime(send, count) {
  const calls = [];
  const done = ran();
  for (let number = done; number < done + count; number += 1) {
    const before = now();
    await send(number);
    calls.push([before, now()]);
    while (ran() <= number) {
      if (now() > before + 30) throw new Error(`task ${number} did not run within 30 s`);
      await pause(1);
    }
    await pause(2 + Math.random() * 20);
  }
  return { calls };
}

async function produce(task, mode, count) {
  const options = results ? {} : { removeOnComplete: true };
  const queue = new Queue('benchmarks', { connection, defaultJobOptions: options });
  const send = (number) => queue.add(task, { number });
  if (mode === 'latency') return oneAtATime(send, count);
  const begin = now();
  if (mode === 'one') {
    for (let number = 0; number < count; number += 1) await send(number);
  } else {
    for (let start = 0; start < count; start += 1000) {
      const numbers = Array.from({ length: Math.min(1000, count - start) }, (_, index) => start + index);
      await queue.addBulk(numbers.map((number) => ({ name: task, data: { number } })));
    }
  }
  const seconds = now() - begin;
  const { user, system } = process.cpuUsage();
  return { seconds, cpu_s: (user + system) / 1e6 };
}

const [, , task, mode, count] = process.argv;
if (task === 'worker') {
  work(Number(mode));
} else {
  produce(task, mode, Number(count)).then((measured) => {
    console.log(JSON.stringify(measured));
    process.exit(0);
  });
}
