import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.StandardSocketOptions;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.ConcurrentLinkedDeque;

import org.apache.flink.streaming.api.functions.async.ResultFuture;

/** What makes the requests. */
interface Client {
    void ask(long number, ResultFuture<Long> result) throws IOException;

    static Client of(String name, InetSocketAddress service) throws IOException {
        return switch (name) {
            case "none" -> (number, result) -> result.complete(List.of(number));
            case "http" -> new Http(service);
            case "raw" -> new Raw(service);
            default -> throw new IllegalArgumentException(name);
        };
    }

    /** Java's own HTTP client. */
    final class Http implements Client {
        private final HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).executor(Runnable::run).build();
        private final String url;

        Http(InetSocketAddress service) {
            url = "http:/" + service + "/";
        }

        @Override
        public void ask(long number, ResultFuture<Long> result) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(url + number)).build();
            client.sendAsync(request, BodyHandlers.ofString()).whenComplete((response, error) -> {
                if (error != null) {
                    result.completeExceptionally(error);
                } else if (response.statusCode() != 200) {
                    result.completeExceptionally(new IOException("status " + response.statusCode()));
                } else {
                    result.complete(List.of(Long.parseLong(response.body())));
                }
            });
        }
    }

    /** The least that a client can do: it writes the bytes of a request, and reads an answer whose length it knows. */
    final class Raw implements Client {
        private static final int ANSWER_BYTES = "HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n0123456789abcdef".length();
        private static final String REQUEST = "GET /%016d HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";

        private final InetSocketAddress service;
        private final Selector selector = Selector.open();
        private final ConcurrentLinkedDeque<Connection> idle = new ConcurrentLinkedDeque<>();

        Raw(InetSocketAddress service) throws IOException {
            this.service = service;
            Thread thread = new Thread(this::read, "raw client");
            thread.setDaemon(true);
            thread.start();
        }

        /** Writes at once, from the operator's thread; a request always fits into the socket's buffer. */
        @Override
        public void ask(long number, ResultFuture<Long> result) throws IOException {
            Connection connection = idle.pollFirst();
            if (connection == null) {
                connection = new Connection(service);
                connection.channel.register(selector, SelectionKey.OP_READ, connection);
                selector.wakeup();
            }
            connection.send(number, result);
        }

        private void read() {
            try {
                while (true) {
                    selector.select(key -> ((Connection) key.attachment()).read(idle));
                }
            } catch (IOException error) {
                throw new IllegalStateException(error);
            }
        }

        private static final class Connection {
            final SocketChannel channel;
            private final ByteBuffer request = ByteBuffer.allocateDirect(REQUEST.formatted(0).length());
            private final ByteBuffer answer = ByteBuffer.allocateDirect(2 * ANSWER_BYTES);
            private volatile ResultFuture<Long> result;

            Connection(InetSocketAddress service) throws IOException {
                channel = SocketChannel.open(service);
                channel.setOption(StandardSocketOptions.TCP_NODELAY, true);
                channel.configureBlocking(false);
                request.put(REQUEST.formatted(0).getBytes(StandardCharsets.US_ASCII));
            }

            void send(long number, ResultFuture<Long> result) throws IOException {
                this.result = result;
                for (int digit = 15; digit >= 0; digit--, number /= 10) {
                    request.put("GET /".length() + digit, (byte) ('0' + number % 10));
                }
                request.rewind();
                if (channel.write(request) != request.limit()) {
                    throw new IOException("a request was cut short");
                }
            }

            void read(ConcurrentLinkedDeque<Connection> idle) {
                try {
                    if (channel.read(answer) < 0) {
                        throw new IOException("the service has closed the connection");
                    }
                    if (answer.position() < ANSWER_BYTES) {
                        return;
                    }
                    long number = 0;
                    for (int at = ANSWER_BYTES - 16; at < ANSWER_BYTES; at++) {
                        number = 10 * number + answer.get(at) - '0';
                    }
                    answer.clear();
                    ResultFuture<Long> result = this.result;
                    idle.addFirst(this);
                    result.complete(List.of(number));
                } catch (IOException error) {
                    result.completeExceptionally(error);
                    try {
                        channel.close();
                    } catch (IOException ignored) {
                        // it is gone either way
                    }
                }
            }
        }
    }
}
