// BullMQ: `node bullmq_app.js worker CONCURRENCY`, or `node bullmq_app.js TASK MODE COUNT` as benchmarks/produce.py.
const fs = require('fs');
const { FlowProducer, Queue, QueueEvents, Worker } = require('bullmq');

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
    if (job.name === 'total') {
      const given = Object.values(await job.getChildrenValues());
      record(job.data.number);
      return given.reduce((sum, value) => sum + value, 0);
    }
    if (job.name === 'step') {
      const [given] = Object.values(await job.getChildrenValues());
      const number = given ?? job.data.number;
      record(number);
      return number + 1;
    }
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

// The workflows of benchmarks/produce.py: how to send each, and how to wait for what it gives.
const PATIENCE_MS = 120000;
const numbered = (start, count) => Array.from({ length: count }, (_, index) => start + index);
const FORMS = {
  chord: {
    repeat: 3,
    expected: (numbers) => numbers.reduce((sum, number) => sum + number, 0),
    build: (numbers, { flows, events }) => {
      const children = numbers.map((number) => ({ name: 'noop', queueName: 'benchmarks', data: { number } }));
      const flow = { name: 'total', queueName: 'benchmarks', data: { number: numbers[0] + numbers.length }, children };
      return [() => flows.add(flow), (node) => node.job.waitUntilFinished(events, PATIENCE_MS)];
    },
  },
  chain: {
    repeat: 5,
    expected: (numbers) => numbers[0] + numbers.length,
    build: (numbers, { flows, events }) => {
      let flow;
      for (let index = 0; index < numbers.length; index += 1) {
        const step = { name: 'step', queueName: 'benchmarks', data: index ? {} : { number: numbers[0] } };
        flow = flow ? { ...step, children: [flow] } : step;
      }
      return [() => flows.add(flow), (node) => node.job.waitUntilFinished(events, PATIENCE_MS)];
    },
  },
  group: {
    repeat: 1,
    expected: (numbers) => numbers,
    build: (numbers, { queue, events }) => {
      const jobs = numbers.map((number) => ({ name: 'noop', data: { number } }));
      const send = async () => {
        const sent = [];
        for (let at = 0; at < jobs.length; at += 1000) sent.push(...await queue.addBulk(jobs.slice(at, at + 1000)));
        return sent;
      };
      return [send, (sent) => Promise.all(sent.map((job) => job.waitUntilFinished(events, PATIENCE_MS)))];
    },
  },
};

async function workflows(mode, count) {
  const form = FORMS[mode];
  const clients = {
    flows: new FlowProducer({ connection }),
    queue: new Queue('benchmarks', { connection }),
    events: new QueueEvents('benchmarks', { connection, lastEventId: '0' }), // else what ends before its first read is lost
  };
  clients.events.setMaxListeners(0);
  await clients.events.waitUntilReady();
  const one = async (size) => {
    const numbers = numbered(ran(), size);
    const [send, wait] = form.build(numbers, clients);
    const begin = now();
    const handle = await send();
    const sent = now();
    const found = await wait(handle);
    const end = now();
    if (JSON.stringify(found) !== JSON.stringify(form.expected(numbers))) throw new Error(`it gave ${found}`);
    return { begin, sent, end, last: numbers[0] + size - (mode === 'chord' ? 0 : 1) };
  };
  await one(Math.max(2, Math.floor(count / 100)));
  const runs = [];
  for (let turn = 0; turn < form.repeat; turn += 1) runs.push(await one(count));
  return { runs };
}

async function produce(task, mode, count) {
  if (mode in FORMS) return workflows(mode, count);
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
