import java.io.IOException;
import java.io.Serializable;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;

import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.datastream.AsyncDataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.async.AsyncRetryStrategy;
import org.apache.flink.streaming.api.functions.async.ResultFuture;
import org.apache.flink.streaming.api.functions.async.RichAsyncFunction;
import org.apache.flink.streaming.util.retryable.AsyncRetryStrategies.ExponentialBackoffDelayRetryStrategyBuilder;

/** The job on Flink: numbers, a request for each of them, in order, with a timeout, retries and a checkpoint a second. */
public final class Job {
    public static void main(String[] arguments) throws Exception {
        String client = arguments[0];
        int capacity = Integer.parseInt(arguments[1]);
        int port = Integer.parseInt(arguments[2]);
        Path checkpoints = Path.of(arguments[3]);
        Thread meter = new Thread(new Meter(capacity, Double.parseDouble(arguments[4]), Double.parseDouble(arguments[5])));

        Configuration settings = new Configuration();
        settings.setString("execution.checkpointing.interval", "1 s");
        settings.setString("execution.checkpointing.storage", "filesystem");
        settings.setString("execution.checkpointing.dir", checkpoints.toUri().toString());
        settings.setString("state.backend.type", "hashmap");
        settings.setString("pipeline.object-reuse", "true"); // chained operators hand a record on without a copy
        settings.setString("restart-strategy.type", "none"); // a failure ends the job, and so the measurement
        settings.setString("taskmanager.memory.network.min", "1 mb"); // the job is one task, without a network
        settings.setString("taskmanager.memory.network.max", "1 mb");
        settings.setString("taskmanager.memory.managed.size", "1 mb"); // for RocksDB and batch jobs

        AsyncRetryStrategy<Long> retries = new ExponentialBackoffDelayRetryStrategyBuilder<Long>(4, 100, 10_000, 2.0)
                .ifException((Predicate<Throwable> & Serializable) error -> true)
                .build();
        StreamExecutionEnvironment flink = StreamExecutionEnvironment.getExecutionEnvironment(settings);
        flink.setParallelism(1);
        AsyncDataStream.orderedWaitWithRetry(
                        flink.fromSequence(0, Long.MAX_VALUE - 1), new Ask(client, port), 60, TimeUnit.SECONDS, capacity, retries)
                .sinkTo(new Counter());
        meter.setDaemon(true);
        meter.start();
        flink.execute();
    }

    /** The function: asks a client. */
    static final class Ask extends RichAsyncFunction<Long, Long> {
        private final String name;
        private final int port;
        private transient Client client;

        Ask(String name, int port) {
            this.name = name;
            this.port = port;
        }

        @Override
        public void open(OpenContext context) throws Exception {
            client = Client.of(name, new InetSocketAddress("127.0.0.1", port));
        }

        @Override
        public void asyncInvoke(Long number, ResultFuture<Long> result) throws Exception {
            client.ask(number, result);
        }
    }

    /** The sink: counts the answers, and checks that each comes once and in order. */
    static final class Counter implements Sink<Long> {
        static volatile long count; // written by one thread

        @Override
        public SinkWriter<Long> createWriter(WriterInitContext context) {
            return new SinkWriter<>() {
                @Override
                public void write(Long answer, Context context) {
                    if (answer != count) {
                        throw new IllegalStateException("answer " + answer + " instead of " + count);
                    }
                    count = answer + 1;
                }

                @Override
                public void flush(boolean end) {}

                @Override
                public void close() {}
            };
        }
    }

    /** Waits until every connection has been used, and through the warm-up, measures, prints, and ends the process. */
    record Meter(int capacity, double warmUp, double measured) implements Runnable {
        @Override
        public void run() {
            try {
                while (Counter.count < capacity) {
                    Thread.sleep(1);
                }
                Thread.sleep((long) (warmUp * 1e3));
                long began = System.nanoTime(), records = Counter.count, cpu = cpuNanos(), kernel = kernelTicks();
                Thread.sleep((long) (measured * 1e3));
                double seconds = (System.nanoTime() - began) / 1e9;
                records = Counter.count - records;
                cpu = cpuNanos() - cpu;
                kernel = kernelTicks() - kernel;
                String peak = Files.readString(Path.of("/proc/self/status")).replaceAll("(?s).*VmHWM:\\s*(\\d+) kB.*", "$1");
                System.out.printf("%.3f %d %.6f %.2f %s%n", seconds, records, cpu / 1e9, kernel / 100.0, peak);
                System.exit(0);
            } catch (Exception error) {
                error.printStackTrace();
                System.exit(1);
            }
        }

        /** The processor time of all threads of the process. */
        private static long cpuNanos() {
            return ((com.sun.management.OperatingSystemMXBean) java.lang.management.ManagementFactory.getOperatingSystemMXBean())
                    .getProcessCpuTime();
        }

        /** The part of it in the kernel, in hundredths of a second. */
        private static long kernelTicks() throws IOException {
            String stat = Files.readString(Path.of("/proc/self/stat"));
            return Long.parseLong(stat.substring(stat.lastIndexOf(')') + 2).split(" ")[12]);
        }
    }
}
