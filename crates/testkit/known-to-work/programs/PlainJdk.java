// A plain WebSocket of docs/any-client.md through java.net.http of the JDK. It answers PINGs only while the application asks for more.
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public class PlainJdk {
  private static final Pattern POSITION = Pattern.compile("\"channel\":\"kept-news\".*\"position\":\"([^\"]+)\"");
  private static String position;

  public static void main(String[] args) throws Exception {
    Matcher url = Pattern.compile("\"socket\":\"([^\"]+)\"").matcher(System.getenv("TARGET"));
    url.find();
    HttpClient client = HttpClient.newHttpClient();
    while (true) {
      CompletableFuture<Void> over = new CompletableFuture<>();
      try {
        client.newWebSocketBuilder().buildAsync(URI.create(url.group(1)), new Listener(over)).join();
        over.join();
      } catch (RuntimeException error) {
        System.out.println(error);
      }
      Thread.sleep(1000);
    }
  }

  private static class Listener implements WebSocket.Listener {
    private final CompletableFuture<Void> over;
    private final StringBuilder text = new StringBuilder();

    Listener(CompletableFuture<Void> over) {
      this.over = over;
    }

    public void onOpen(WebSocket socket) {
      String recover = position == null ? "true" : "{\"position\":\"" + position + "\"}";
      socket.sendText("{\"type\":\"subscribe\",\"channel\":\"kept-news\",\"recover\":" + recover + "}", true);
      socket.request(1);
    }

    public CompletionStage<?> onText(WebSocket socket, CharSequence part, boolean last) {
      text.append(part);
      if (last) {
        System.out.println(text);
        Matcher found = POSITION.matcher(text);
        if (found.find()) position = found.group(1);
        text.setLength(0);
      }
      socket.request(1);
      return null;
    }

    public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
      System.out.println("closed " + code + " " + reason);
      over.complete(null);
      return null;
    }

    public void onError(WebSocket socket, Throwable error) {
      System.out.println(error);
      over.complete(null);
    }
  }
}
