package examples;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.OpenOption;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.Base64;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;

/**
 * Writes its arguments to a file, and runs a job that does nothing.
 *
 * <p>The file is the first argument. Each of the others is a line in it, in UTF-8 and Base64, so that nothing about
 * it can be lost or doubted.
 *
 * <p>The source stays within what Janino compiles.
 */
@SuppressWarnings("unchecked")
public final class Arguments {
    private Arguments() {}

    public static void main(String[] arguments) throws Exception {
        StringBuilder lines = new StringBuilder();
        for (int i = 1; i < arguments.length; i++) {
            byte[] bytes = arguments[i].getBytes(StandardCharsets.UTF_8);
            lines.append(Base64.getEncoder().encodeToString(bytes)).append('\n');
        }
        Path file = Paths.get(arguments[0], new String[0]);
        Files.write(file, lines.toString().getBytes(StandardCharsets.UTF_8), new OpenOption[0]);
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment();
        environment.setParallelism(1);
        environment.fromSequence(1, 1).sinkTo(new DiscardingSink());
        environment.execute("Arguments");
    }
}
