# Sidekiq: the job for `sidekiq -r`, and `ruby sidekiq_app.rb TASK MODE COUNT` as benchmarks/produce.py.
require "json"
require "sidekiq"

Sidekiq.configure_server do |config|
  config.redis = { url: ENV.fetch("BENCH_URL") }
  config.logger.level = Logger::WARN
end
Sidekiq.configure_client { |config| config.redis = { url: ENV.fetch("BENCH_URL") } }

ENTRY_BYTES = 24

def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
def ran = File.size(ENV.fetch("BENCH_RECORD")) / ENTRY_BYTES

# Nothing but the record: one entry of benchmarks/record.py.
class Noop
  include Sidekiq::Worker

  FILE = File.open(ENV.fetch("BENCH_RECORD"), File::WRONLY | File::APPEND)

  def perform(number)
    FILE.syswrite([number, Process.pid, now].pack("Q<Q<E"))
  end
end

def one_at_a_time(count)
  done = ran
  calls = (done...done + count).map do |number|
    before = now
    Noop.perform_async(number)
    after = now
    until ran > number
      raise "task #{number} did not run within 30 s" if now > before + 30
      sleep 0.0002
    end
    sleep rand(0.002..0.022)
    [before, after]
  end
  { calls: calls }
end

def produce(mode, count)
  return one_at_a_time(count) if mode == "latency"

  spent = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
  start = now
  if mode == "one"
    count.times { |number| Noop.perform_async(number) }
  else
    (0...count).each_slice(1000) { |some| Sidekiq::Client.push_bulk("class" => Noop, "args" => some.map { |n| [n] }) }
  end
  { seconds: now - start, cpu_s: Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID) - spent }
end

if $PROGRAM_NAME == __FILE__
  _, mode, count = ARGV
  puts JSON.generate(produce(mode, Integer(count)))
end
