// A worker in JavaScript: url and queue as JSON. Its tasks get their arguments, then the keyword arguments as an object.
const celery = require("celery-node");

const [url, queue] = process.argv.slice(2).map((word) => JSON.parse(word));
const worker = celery.createWorker(url, url, queue);
worker.register("interop.echo", (...args) => [args.slice(0, -1), args[args.length - 1]]);
worker.register("interop.fail", (kind, text) => {
  throw { exc_type: kind, exc_message: [text], exc_module: "builtins" };
});
worker.start();
