package examples;

import java.io.File;
import java.util.Locale;
import org.apache.flink.api.common.accumulators.LongCounter;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.FlatMapFunction;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.operators.SlotSharingGroup;
import org.apache.flink.api.common.serialization.SimpleStringEncoder;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.functions.KeySelector;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.file.sink.FileSink;
import org.apache.flink.connector.file.src.FileSource;
import org.apache.flink.connector.file.src.reader.TextLineInputFormat;
import org.apache.flink.core.fs.Path;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.streaming.api.functions.sink.filesystem.bucketassigners.BasePathBucketAssigner;
import org.apache.flink.streaming.api.functions.sink.filesystem.rollingpolicies.OnCheckpointRollingPolicy;
import org.apache.flink.util.Collector;

/**
 * Counts the words of a text file.
 *
 * <p>The job is a stream that ends: it reads the input once, keeps one counter per word, and writes a line
 * {@code word count} for each word when the input is over. Counters are part of its checkpoints and the sink
 * commits with them, so each line appears once and is exact, also when a TaskManager dies on the way.
 *
 * <p>A word is a run of the letters a to z and the digits 0 to 9, and no others; upper case counts as
 * lower case.
 *
 * <p>The source stays within what Janino compiles, which has no lambdas and no bridge methods for generic
 * types. Hence the raw types, and the types given to Flink by hand.
 */
@SuppressWarnings({"rawtypes", "unchecked"})
public final class WordCount {
    private static final String USAGE =
            "usage: WordCount --input FILE --output DIRECTORY [--parallelism N]"
                    + " [--delay-per-line-millis N] [--slow-while-exists FILE]"
                    + " [--checkpoint-interval-millis N]"
                    + " [--heap-of-counting-slot-mebibytes N]";

    private WordCount() {}

    public static void main(String[] arguments) throws Exception {
        String input = text(arguments, "--input", null);
        String output = text(arguments, "--output", null);
        int parallelism = (int) number(arguments, "--parallelism", 4);
        long delayMillis = number(arguments, "--delay-per-line-millis", 0);
        String slowWhile = text(arguments, "--slow-while-exists", "");
        long checkpointMillis = number(arguments, "--checkpoint-interval-millis", 1000);
        int countingHeap = (int) number(arguments, "--heap-of-counting-slot-mebibytes", 0);
        rejectUnknown(arguments);

        Configuration settings = new Configuration();
        settings.setString("execution.checkpointing.interval", checkpointMillis + " ms");
        settings.setString("execution.checkpointing.mode", "EXACTLY_ONCE");
        settings.setString("restart-strategy.type", "fixed-delay");
        settings.setString("restart-strategy.fixed-delay.attempts", "1000");
        settings.setString("restart-strategy.fixed-delay.delay", "1 s");
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment(settings);
        environment.setParallelism(parallelism);

        FileSource.FileSourceBuilder source =
                FileSource.forRecordStreamFormat(new TextLineInputFormat(), new Path[] {new Path(input)});
        DataStream lines =
                environment.fromSource(source.build(), WatermarkStrategy.noWatermarks(), "lines", Types.STRING);
        DataStream words =
                lines.flatMap(new SplitIntoWords(delayMillis, slowWhile)).returns(Types.STRING).name("words");
        KeyedStream byWord = words.keyBy(new WordItself(), Types.STRING);
        SingleOutputStreamOperator counts = byWord.process(new Count(), Types.STRING).name("counts");
        if (countingHeap > 0) {
            // Slots of a size of their own, with cluster.fine-grained-resource-management.enabled.
            SlotSharingGroup.Builder size = SlotSharingGroup.newBuilder("counting");
            counts.slotSharingGroup(size.setCpuCores(0.05).setTaskHeapMemoryMB(countingHeap).build());
        }
        FileSink.RowFormatBuilder sink =
                FileSink.forRowFormat(new Path(output), new SimpleStringEncoder("UTF-8"));
        sink.withBucketAssigner(new BasePathBucketAssigner());
        sink.withRollingPolicy(OnCheckpointRollingPolicy.build());
        counts.sinkTo(sink.build()).name("files");

        environment.execute("WordCount");
    }

    /** The words of a line, each as one record. */
    public static final class SplitIntoWords implements FlatMapFunction {
        private static final long serialVersionUID = 1L;

        private final long delayMillis;
        private final String slowWhile;

        /** With a delay per line, the job lasts long enough to be disturbed; until a file goes, if one is named. */
        public SplitIntoWords(long delayMillis, String slowWhile) {
            this.delayMillis = delayMillis;
            this.slowWhile = slowWhile;
        }

        @Override
        public void flatMap(Object line, Collector words) throws Exception {
            if (delayMillis > 0 && (slowWhile.isEmpty() || new File(slowWhile).exists())) {
                Thread.sleep(delayMillis);
            }
            String text = (String) line;
            int start = 0;
            for (int end = 0; end <= text.length(); end++) {
                if (end < text.length() && isPartOfWord(text.charAt(end))) {
                    continue;
                }
                if (end > start) {
                    words.collect(text.substring(start, end).toLowerCase(Locale.ROOT));
                }
                start = end + 1;
            }
        }

        private static boolean isPartOfWord(char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        }
    }

    /** A word is its own key. */
    public static final class WordItself implements KeySelector {
        private static final long serialVersionUID = 1L;

        @Override
        public Object getKey(Object word) {
            return word;
        }
    }

    /** Counts quietly and speaks once, when the end of the input moves event time to its end. */
    public static final class Count extends KeyedProcessFunction {
        private static final long serialVersionUID = 1L;

        private transient ValueState count;
        private transient LongCounter words;

        @Override
        public void open(OpenContext context) throws Exception {
            words = new LongCounter();
            getRuntimeContext().addAccumulator("words", words);
            count = getRuntimeContext().getState(new ValueStateDescriptor("count", Types.LONG));
        }

        @Override
        public void processElement(Object word, KeyedProcessFunction.Context context, Collector lines)
                throws Exception {
            words.add(1L);
            Object before = count.value();
            if (before == null) {
                context.timerService().registerEventTimeTimer(Long.MAX_VALUE);
                count.update(Long.valueOf(1L));
            } else {
                count.update(Long.valueOf(((Long) before).longValue() + 1L));
            }
        }

        @Override
        public void onTimer(long time, KeyedProcessFunction.OnTimerContext context, Collector lines)
                throws Exception {
            lines.collect(context.getCurrentKey() + " " + count.value());
        }
    }

    private static String text(String[] arguments, String name, String fallback) {
        for (int i = 0; i + 1 < arguments.length; i += 2) {
            if (arguments[i].equals(name)) {
                return arguments[i + 1];
            }
        }
        if (fallback == null) {
            throw new IllegalArgumentException(name + " is missing; " + USAGE);
        }
        return fallback;
    }

    private static long number(String[] arguments, String name, long fallback) {
        String value = text(arguments, name, String.valueOf(fallback));
        long number;
        try {
            number = Long.parseLong(value);
        } catch (NumberFormatException notANumber) {
            throw new IllegalArgumentException(name + " is not a number: " + value + "; " + USAGE);
        }
        if (number < 0) {
            throw new IllegalArgumentException(name + " is negative: " + value + "; " + USAGE);
        }
        return number;
    }

    private static void rejectUnknown(String[] arguments) {
        for (int i = 0; i < arguments.length; i += 2) {
            boolean known =
                    arguments[i].equals("--input")
                            || arguments[i].equals("--output")
                            || arguments[i].equals("--parallelism")
                            || arguments[i].equals("--delay-per-line-millis")
                            || arguments[i].equals("--slow-while-exists")
                            || arguments[i].equals("--checkpoint-interval-millis")
                            || arguments[i].equals("--heap-of-counting-slot-mebibytes");
            if (!known || i + 1 == arguments.length) {
                throw new IllegalArgumentException("unexpected " + arguments[i] + "; " + USAGE);
            }
        }
    }
}
