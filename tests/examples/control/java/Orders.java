import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

/** The client under test: it asks again when Retry-After has passed. */
record Orders(URI url, Sleep sleep) {
    interface Sleep {
        void sleep(long milliseconds) throws Exception;
    }

    int fetch() throws Exception {
        var http = HttpClient.newHttpClient();
        for (int tries = 0; ; tries++) {
            var answer = http.send(HttpRequest.newBuilder(url).build(), BodyHandlers.ofString());
            if (answer.statusCode() != 503 || tries == 3) {
                return answer.statusCode();
            }
            sleep.sleep(1000 * answer.headers().firstValueAsLong("Retry-After").orElse(60));
        }
    }
}
