// com.pusher:pusher-java-client, as its README uses it.
import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.pusher.client.Pusher;
import com.pusher.client.PusherOptions;
import com.pusher.client.channel.PresenceChannelEventListener;
import com.pusher.client.channel.PrivateChannelEventListener;
import com.pusher.client.channel.PusherEvent;
import com.pusher.client.channel.User;
import com.pusher.client.connection.ConnectionEventListener;
import com.pusher.client.connection.ConnectionState;
import com.pusher.client.connection.ConnectionStateChange;
import com.pusher.client.util.HttpChannelAuthorizer;
import java.util.Set;

public class JavaPusherClient {
  public static void main(String[] args) throws Exception {
    JsonObject target = new Gson().fromJson(System.getenv("TARGET"), JsonObject.class);
    PusherOptions options = new PusherOptions()
        .setUseTLS(false)
        .setHost(target.get("host").getAsString())
        .setWsPort(target.get("port").getAsInt())
        .setChannelAuthorizer(new HttpChannelAuthorizer(target.get("auth").getAsString()));
    Pusher pusher = new Pusher(target.get("key").getAsString(), options);
    pusher.connect(new ConnectionEventListener() {
      public void onConnectionStateChange(ConnectionStateChange change) {
        System.out.println(change.getPreviousState() + " -> " + change.getCurrentState());
      }

      public void onError(String message, String code, Exception error) {
        System.out.println("error " + code + " " + message + " " + error);
      }
    }, ConnectionState.ALL);
    JsonArray channels = target.getAsJsonArray("channels");
    for (JsonElement each : channels) {
      String name = each.getAsString();
      if (name.startsWith("presence-")) pusher.subscribePresence(name, new Listener(), "tick");
      else if (name.startsWith("private-")) pusher.subscribePrivate(name, new Listener(), "tick");
      else pusher.subscribe(name, new Listener(), "tick");
    }
    Thread.currentThread().join();
  }

  private static class Listener implements PrivateChannelEventListener, PresenceChannelEventListener {
    public void onEvent(PusherEvent event) {
      print(event.getEventName(), event.getChannelName(), event.getData());
    }

    public void onSubscriptionSucceeded(String channel) {
      print("pusher:subscription_succeeded", channel, "");
    }

    public void onAuthenticationFailure(String message, Exception error) {
      System.out.println("refused " + message + " " + error);
    }

    public void onUsersInformationReceived(String channel, Set<User> users) {}

    public void userSubscribed(String channel, User user) {}

    public void userUnsubscribed(String channel, User user) {}
  }

  private static void print(String event, String channel, String data) {
    JsonObject line = new JsonObject();
    line.addProperty("event", event);
    line.addProperty("channel", channel);
    line.addProperty("data", data);
    System.out.println(line);
  }
}
