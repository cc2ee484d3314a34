// A producer in JavaScript: url, queue, task, args, kwargs, each as JSON. Prints the task's id and what became of it.
const celery = require("celery-node");

async function main() {
  const [url, queue, task, args, kwargs] = process.argv.slice(2).map((word) => JSON.parse(word));
  const client = celery.createClient(url, url, queue);
  const sent = client.createTask(task).applyAsync(args, kwargs);
  const answer = { id: sent.taskId };
  try {
    answer.result = await sent.get(20000, 20);
  } catch (error) {
    answer.status = error.message;
    answer.error = { ...error };
  }
  console.log(JSON.stringify(answer));
  await client.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
