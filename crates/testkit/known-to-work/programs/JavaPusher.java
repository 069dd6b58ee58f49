// com.pusher:pusher-http-java, the class that waits for its answers.
import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.pusher.rest.Pusher;
import com.pusher.rest.data.Event;
import com.pusher.rest.data.PresenceUser;
import com.pusher.rest.data.Result;
import com.pusher.rest.data.Validity;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

public class JavaPusher {
  private static final Gson GSON = new Gson();

  public static void main(String[] args) {
    JsonObject target = GSON.fromJson(System.getenv("TARGET"), JsonObject.class);
    String host = target.get("host").getAsString() + ":" + target.get("port").getAsString();
    try (Pusher pusher = new Pusher(text(target, "id"), text(target, "key"), text(target, "secret"))) {
      pusher.setHost(host);
      System.out.println(call(pusher, GSON.fromJson(args[0], JsonObject.class)));
    } catch (Exception error) {
      System.out.println(GSON.toJson(Map.of("error", error.toString())));
    }
  }

  private static String call(Pusher pusher, JsonObject about) throws Exception {
    switch (text(about, "call")) {
      case "trigger":
        List<String> channels = new ArrayList<>();
        about.getAsJsonArray("channels").forEach(name -> channels.add(name.getAsString()));
        return done(about.has("socketId")
            ? pusher.trigger(channels, text(about, "event"), about.get("data"), text(about, "socketId"))
            : pusher.trigger(channels, text(about, "event"), about.get("data")));
      case "batch":
        List<Event> batch = new ArrayList<>();
        for (JsonElement event : about.getAsJsonArray("batch")) {
          JsonObject one = event.getAsJsonObject();
          batch.add(new Event(text(one, "channel"), text(one, "name"), one.get("data")));
        }
        return done(pusher.trigger(batch));
      case "channels":
        return done(pusher.get("/channels", Map.of("filter_by_prefix", text(about, "prefix"), "info", text(about, "info"))));
      case "channel":
        return done(pusher.get("/channels/" + text(about, "channel"), Map.of("info", text(about, "info"))));
      case "members":
        return done(pusher.get("/channels/" + text(about, "channel") + "/users"));
      case "authorize":
        String channel = text(about, "channelName");
        JsonObject user = about.getAsJsonObject("user");
        return channel.startsWith("presence-")
            ? pusher.authenticate(text(about, "socketId"), channel, new PresenceUser(text(user, "user_id"), user.get("user_info")))
            : pusher.authenticate(text(about, "socketId"), channel);
      case "webhook":
        JsonObject headers = about.getAsJsonObject("headers");
        Validity validity = pusher.validateWebhookSignature(
            text(headers, "x-pusher-key"), text(headers, "x-pusher-signature"), text(about, "body"));
        return GSON.toJson(Map.of("valid", validity == Validity.VALID));
      default:
        return "{\"notOffered\":true}";
    }
  }

  private static String done(Result result) {
    if (result.getHttpStatus() == null || result.getHttpStatus() != 200) throw new IllegalStateException(result.getStatus() + " " + result.getMessage());
    return result.getMessage().replace("\n", " ");
  }

  private static String text(JsonObject of, String name) {
    return of.get(name).getAsString();
  }
}
