// Java's HttpClient as it is delivered. A line tells how each request went: a status, or an exception.
import java.io.FileInputStream;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

class HttpClientJob {
  /** The arguments: the file of the CA, that of the body ("" for a GET), and the URLs. */
  public static void main(String[] arguments) throws Exception {
    HttpClient client = HttpClient.newBuilder().sslContext(trusting(arguments[0])).build();
    for (int i = 2; i < arguments.length; i++) {
      HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(arguments[i]));
      if (!arguments[1].isEmpty()) request.POST(BodyPublishers.ofFile(Path.of(arguments[1])));
      try {
        System.out.println(client.send(request.build(), BodyHandlers.ofString()).statusCode());
      } catch (IOException error) {
        error.printStackTrace();
        System.out.println(error.getClass().getSimpleName());
      }
    }
  }

  private static SSLContext trusting(String file) throws Exception {
    KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
    store.load(null);
    try (FileInputStream pem = new FileInputStream(file)) {
      store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(pem));
    }
    TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(store);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, trust.getTrustManagers(), null);
    return context;
  }
}
