import static org.junit.jupiter.api.Assertions.assertEquals;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class OrdersTest {
    final String api = System.getenv("NOTNOW_CONTROL"); // the URL that `notnow serve --control` printed
    final HttpClient http = HttpClient.newHttpClient();
    JsonNode server;

    @BeforeEach
    void startServer() throws Exception {
        var started = call("POST", "/v1/servers", """
            {"scenario": "http/overload", "knobs": {"outage": "1h"},
             "tls": "none", "speed": 0, "ttl": "5m"}""");
        server = new ObjectMapper().readTree(started.body());
    }

    @AfterEach
    void stopServer() throws Exception {
        call("DELETE", "/v1/servers/" + name(), "");
    }

    @Test
    void waitsAsLongAsRetryAfterSays() throws Exception {
        var url = URI.create(server.get("url").asText());
        var orders = new Orders(url, this::advance); // in production: Thread::sleep
        assertEquals(200, orders.fetch());
        var verdict = call("GET", "/v1/verdict?format=text&exit=0&count=1&server=" + name(), "");
        assertEquals("0", verdict.headers().firstValue("Notnow-Exit").get(), verdict.body());
    }

    /** The clock of the server stands still: it is as late as the client has waited. */
    void advance(long milliseconds) throws Exception {
        var body = "{\"by\": \"%dms\", \"servers\": [\"%s\"]}".formatted(milliseconds, name());
        call("POST", "/v1/clock/advance", body);
    }

    String name() {
        return server.get("name").asText();
    }

    HttpResponse<String> call(String method, String path, String body) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(api + path))
            .header("Content-Type", "application/json")
            .method(method, BodyPublishers.ofString(body))
            .build();
        var answer = http.send(request, BodyHandlers.ofString());
        assertEquals(2, answer.statusCode() / 100, answer.body());
        return answer;
    }
}
