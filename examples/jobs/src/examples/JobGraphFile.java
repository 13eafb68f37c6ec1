package examples;

import java.io.File;
import java.io.FileOutputStream;
import java.io.ObjectOutputStream;
import java.nio.file.CopyOption;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import org.apache.flink.api.common.functions.RichMapFunction;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;

/**
 * Runs no job, but writes one to a file: a job graph for {@code flink-k8s run --job-graph}.
 *
 * <p>The job copies a local file, its artifact {@code original}, to the path that is the last argument. It needs the
 * jar with this class.
 *
 * <p>The source stays within what Janino compiles.
 */
@SuppressWarnings({"rawtypes", "unchecked"})
public final class JobGraphFile {
    private JobGraphFile() {}

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 3) {
            throw new IllegalArgumentException("usage: JobGraphFile GRAPH ORIGINAL COPY");
        }
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment();
        environment.setParallelism(1);
        environment.registerCachedFile(arguments[1], "original");
        environment
                .fromSequence(1, 1)
                .map(new Copy(arguments[2]))
                .returns(Types.LONG)
                .sinkTo(new DiscardingSink());
        ObjectOutputStream graph = new ObjectOutputStream(new FileOutputStream(arguments[0]));
        graph.writeObject(environment.getStreamGraph().getJobGraph());
        graph.close();
    }

    /** Copies the artifact once per element. */
    public static final class Copy extends RichMapFunction {
        private static final long serialVersionUID = 1L;

        private final String copy;

        /** The copy must not exist yet. */
        public Copy(String copy) {
            this.copy = copy;
        }

        @Override
        public Object map(Object element) throws Exception {
            File original = getRuntimeContext().getDistributedCache().getFile("original");
            Path copy = Paths.get(this.copy, new String[0]);
            Files.copy(original.toPath(), copy, new CopyOption[0]);
            return element;
        }
    }
}
