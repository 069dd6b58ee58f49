// github.com/pusher/pusher-http-go.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/pusher/pusher-http-go"
)

type call struct {
	Call        string
	Channels    []string
	Channel     string
	ChannelName string
	Event       string
	Data        interface{}
	SocketID    string `json:"socketId"`
	Batch       []struct {
		Channel, Name string
		Data          interface{}
	}
	Prefix, Info, Body string
	User               json.RawMessage
	Headers            map[string]string
}

type member struct {
	ID   string                 `json:"user_id"`
	Info map[string]interface{} `json:"user_info"`
}

func main() {
	var target struct{ Host, ID, Key, Secret string; Port int }
	must(json.Unmarshal([]byte(os.Getenv("TARGET")), &target))
	client := pusher.Client{AppID: target.ID, Key: target.Key, Secret: target.Secret, Host: fmt.Sprintf("%s:%d", target.Host, target.Port)}
	var about call
	must(json.Unmarshal([]byte(os.Args[1]), &about))
	answer, err := run(client, about)
	if err != nil {
		answer = map[string]string{"error": err.Error()}
	}
	line, err := json.Marshal(answer)
	must(err)
	fmt.Println(string(line))
}

func run(client pusher.Client, about call) (interface{}, error) {
	switch about.Call {
	case "trigger":
		if about.SocketID != "" {
			return struct{}{}, client.TriggerMultiExclusive(about.Channels, about.Event, about.Data, about.SocketID)
		}
		return struct{}{}, client.TriggerMulti(about.Channels, about.Event, about.Data)
	case "batch":
		batch := []pusher.Event{}
		for _, event := range about.Batch {
			batch = append(batch, pusher.Event{Channel: event.Channel, Name: event.Name, Data: event.Data})
		}
		return client.TriggerBatch(batch)
	case "channels":
		all, err := client.Channels(pusher.ChannelsParams{FilterByPrefix: &about.Prefix, Info: &about.Info})
		if err != nil {
			return nil, err
		}
		channels := map[string]interface{}{}
		for name, of := range all.Channels {
			channels[name] = map[string]int{"user_count": of.UserCount}
		}
		return map[string]interface{}{"channels": channels}, nil
	case "channel":
		one, err := client.Channel(about.Channel, pusher.ChannelParams{Info: &about.Info})
		if err != nil {
			return nil, err
		}
		return map[string]interface{}{"occupied": one.Occupied, "user_count": one.UserCount, "subscription_count": one.SubscriptionCount}, nil
	case "members":
		users, err := client.GetChannelUsers(about.Channel)
		if err != nil {
			return nil, err
		}
		list := []map[string]string{}
		for _, user := range users.List {
			list = append(list, map[string]string{"id": user.ID})
		}
		return map[string]interface{}{"users": list}, nil
	}
	return runAuth(client, about)
}

func runAuth(client pusher.Client, about call) (interface{}, error) {
	var user member
	_ = json.Unmarshal(about.User, &user)
	form := []byte(url.Values{"socket_id": {about.SocketID}, "channel_name": {about.ChannelName}}.Encode())
	switch about.Call {
	case "authorize":
		if strings.HasPrefix(about.ChannelName, "presence-") {
			info := map[string]string{}
			for name, value := range user.Info {
				info[name] = fmt.Sprint(value)
			}
			return raw(client.AuthorizePresenceChannel(form, pusher.MemberData{UserID: user.ID, UserInfo: info}))
		}
		return raw(client.AuthorizePrivateChannel(form))
	case "authenticate":
		return raw(client.AuthenticateUser(form, map[string]interface{}{"id": user.ID}))
	case "sendToUser":
		var id string
		must(json.Unmarshal(about.User, &id))
		return struct{}{}, client.SendToUser(id, about.Event, about.Data)
	case "webhook":
		headers := http.Header{}
		for name, value := range about.Headers {
			headers.Set(name, value)
		}
		_, err := client.Webhook(headers, []byte(about.Body))
		return map[string]bool{"valid": err == nil}, nil
	}
	return map[string]bool{"notOffered": true}, nil
}

func raw(answer []byte, err error) (interface{}, error) {
	return json.RawMessage(answer), err
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
