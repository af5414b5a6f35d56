import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.state.RocksDBConfigSetter;
import org.rocksdb.BlockBasedTableConfig;
import org.rocksdb.BloomFilter;
import org.rocksdb.CompressionType;
import org.rocksdb.Options;

/**
 * A windowed join of two streams by key, as the developer guide of Kafka Streams writes it.
 *
 * <p>Join BOOTSTRAP FIRST SECOND OUTPUT STATE_DIRECTORY default|tuned [PROPERTY=VALUE ...]
 *
 * <p>default: JSON serdes, every setting as shipped. tuned: values stay bytes until they are joined, RocksDB with larger
 * memtables and no compression, larger fetches, buffers and batches. The changelogs stay: the guarantee stands on them. The
 * window store in memory is no choice: it looks a key up in one map for each millisecond of the window (measured: 8 times
 * the CPU).
 */
public final class Join {
    private static final Duration WINDOW = Duration.ofSeconds(60);
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) {
        String first = arguments[1], second = arguments[2], output = arguments[3];
        boolean tuned = arguments[5].equals("tuned");
        Properties properties = new Properties();
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, output);
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        properties.put(StreamsConfig.STATE_DIR_CONFIG, arguments[4]);
        properties.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        if (tuned) {
            tune(properties);
        }
        for (int index = 6; index < arguments.length; index++) {
            String[] property = arguments[index].split("=", 2);
            properties.put(property[0], property[1]);
        }
        StreamsBuilder builder = new StreamsBuilder();
        if (tuned) {
            joinOfBytes(builder, first, second, output);
        } else {
            joinOfObjects(builder, first, second, output);
        }
        KafkaStreams streams = new KafkaStreams(builder.build(properties), properties);
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    private static void joinOfObjects(StreamsBuilder builder, String first, String second, String output) {
        Serde<ObjectNode> json = Serdes.serdeFrom((topic, value) -> written(value), (topic, bytes) -> read(bytes));
        KStream<String, ObjectNode> left = builder.stream(first, Consumed.with(Serdes.String(), json));
        KStream<String, ObjectNode> right = builder.stream(second, Consumed.with(Serdes.String(), json));
        left.join(
                        right,
                        Join::merged,
                        JoinWindows.ofTimeDifferenceWithNoGrace(WINDOW),
                        StreamJoined.with(Serdes.String(), json, json))
                .to(output, Produced.with(Serdes.String(), json));
    }

    private static void joinOfBytes(StreamsBuilder builder, String first, String second, String output) {
        Serde<byte[]> bytes = Serdes.ByteArray();
        KStream<String, byte[]> left = builder.stream(first, Consumed.with(Serdes.String(), bytes));
        KStream<String, byte[]> right = builder.stream(second, Consumed.with(Serdes.String(), bytes));
        left.join(
                        right,
                        (one, other) -> written(merged(read(one), read(other))),
                        JoinWindows.ofTimeDifferenceWithNoGrace(WINDOW),
                        StreamJoined.with(Serdes.String(), bytes, bytes))
                .to(output, Produced.with(Serdes.String(), bytes));
    }

    /** Everything of a minute stays in the memtables; the bloom filters spare the look-ups of what is not there yet. */
    public static final class LargeMemtables implements RocksDBConfigSetter {
        @Override
        public void setConfig(String store, Options options, Map<String, Object> configs) {
            BlockBasedTableConfig table = (BlockBasedTableConfig) options.tableFormatConfig();
            table.setFilterPolicy(new BloomFilter(10, false));
            options.setTableFormatConfig(table);
            options.setWriteBufferSize(64 * 1024 * 1024);
            options.setMemtablePrefixBloomSizeRatio(0.1);
            options.setMemtableWholeKeyFiltering(true);
            options.setCompressionType(CompressionType.NO_COMPRESSION);
        }

        @Override
        public void close(String store, Options options) {}
    }

    private static void tune(Properties properties) {
        properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5000);
        properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 4_194_304);
        properties.put(StreamsConfig.ROCKSDB_CONFIG_SETTER_CLASS_CONFIG, LargeMemtables.class);
        properties.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 10_000);
        properties.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 262_144);
        properties.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 134_217_728);
    }

    private static ObjectNode merged(ObjectNode left, ObjectNode right) {
        ObjectNode content = JSON.createObjectNode();
        content.setAll((ObjectNode) left.get("content"));
        content.setAll((ObjectNode) right.get("content"));
        ObjectNode merged = JSON.createObjectNode();
        merged.setAll(left);
        merged.setAll(right);
        merged.set("content", content);
        return merged;
    }

    private static ObjectNode read(byte[] bytes) {
        try {
            return bytes == null ? null : (ObjectNode) JSON.readTree(bytes);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static byte[] written(ObjectNode value) {
        try {
            return value == null ? null : JSON.writeValueAsBytes(value);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
