// Made from docs/openapi.json by "npm run types". Changes here are lost.
export const FACTS = {
  "settings": {
    "authorized_connections": {
      "description": "Whether a connection must sign in or subscribe to a private or presence channel within 30 seconds.",
      "type": "boolean",
      "default": false
    },
    "client_events": {
      "description": "Whether clients may send events of their own.",
      "type": "boolean",
      "default": false
    },
    "enabled": {
      "description": "Whether the app is enabled; a disabled app accepts neither connections nor events.",
      "type": "boolean",
      "default": true
    },
    "subscription_count": {
      "description": "Whether subscribers get their channel's subscription count.",
      "type": "boolean",
      "default": false
    },
    "tls_only": {
      "description": "Whether clients must use TLS; others are refused with 4000. TLS ends at a proxy, whose `X-Forwarded-Proto` says so.",
      "type": "boolean",
      "default": false
    },
    "watchlists": {
      "description": "Whether signed-in users learn which of the users that they watch are online.",
      "type": "boolean",
      "default": false
    }
  },
  "limits": {
    "backend_events_per_second": {
      "description": "Events that backends may publish per second, and the burst that they may publish at once; 0 for no limit. Further events are refused with status 429.",
      "type": "integer",
      "default": 0,
      "minimum": 0,
      "maximum": 4294967295
    },
    "batch_events": {
      "description": "Most events in one `POST batch_events`.",
      "type": "integer",
      "default": 10,
      "minimum": 1,
      "maximum": 10000
    },
    "cache_bytes": {
      "description": "Most bytes that the cached events of an app take together; the oldest are dropped first.",
      "type": "integer",
      "default": 16777216,
      "minimum": 0,
      "maximum": 1099511627776
    },
    "cache_ttl": {
      "description": "Seconds that a cache channel keeps its last event; at most a year.",
      "type": "integer",
      "default": 1800,
      "minimum": 1,
      "maximum": 31536000
    },
    "channel_name": {
      "description": "Longest channel name. Hosted Pusher documents 164; no SDK refuses less than 200, so neither does this server.",
      "type": "integer",
      "default": 200,
      "minimum": 1,
      "maximum": 1024
    },
    "channels_per_publish": {
      "description": "Most channels in one `POST events`.",
      "type": "integer",
      "default": 100,
      "minimum": 1,
      "maximum": 10000
    },
    "client_event_data": {
      "description": "Most bytes in the `data` of one client event.",
      "type": "integer",
      "default": 10240,
      "minimum": 1,
      "maximum": 16777216
    },
    "client_events_per_second": {
      "description": "Client events that one connection may send per second, and the burst that it may send at once; 0 for no limit.",
      "type": "integer",
      "default": 10,
      "minimum": 0,
      "maximum": 1000000
    },
    "connections": {
      "description": "Most connections of the app, over all nodes; 0 for no limit. Further clients are refused with 4004, or with 4100 while one network has many of the connections.",
      "type": "integer",
      "default": 0,
      "minimum": 0,
      "maximum": 100000000
    },
    "event_data": {
      "description": "Most bytes in the `data` of one event from the HTTP API; larger events are refused with status 413.",
      "type": "integer",
      "default": 10240,
      "minimum": 1,
      "maximum": 67108864
    },
    "event_name": {
      "description": "Longest event name.",
      "type": "integer",
      "default": 200,
      "minimum": 1,
      "maximum": 1024
    },
    "history_bytes": {
      "description": "Most bytes that the histories of an app take together on a node by itself; the longest unused is dropped first. In a cluster Redis keeps the histories, bounded by their sizes and times.",
      "type": "integer",
      "default": 67108864,
      "minimum": 0,
      "maximum": 1099511627776
    },
    "presence_member_size": {
      "description": "Most bytes in a presence member: its `user_id` and `user_info` together.",
      "type": "integer",
      "default": 1024,
      "minimum": 1,
      "maximum": 1048576
    },
    "presence_members": {
      "description": "Most distinct users on a presence channel.",
      "type": "integer",
      "default": 100,
      "minimum": 1,
      "maximum": 1000000
    },
    "subscriptions": {
      "description": "Most subscriptions of the app's connections on each node; 0 for no limit. Further subscriptions are refused.",
      "type": "integer",
      "default": 0,
      "minimum": 0,
      "maximum": 1000000000
    },
    "user_id": {
      "description": "Longest presence `user_id`, in characters.",
      "type": "integer",
      "default": 128,
      "minimum": 1,
      "maximum": 1024
    },
    "watchlist": {
      "description": "Most users on a watchlist; of a longer one only the first count.",
      "type": "integer",
      "default": 100,
      "minimum": 0,
      "maximum": 10000
    }
  },
  "quotas": {
    "bytes_per_month": {
      "description": "Most bytes a month: data of events, messages of clients and frames of deliveries. Refuses as `messages_per_day` does, until the first of the next month.",
      "type": "integer",
      "default": 0,
      "minimum": 0,
      "maximum": 1000000000000000000
    },
    "deliveries_per_day": {
      "description": "Most deliveries a day: one for each subscriber of each message. Refuses as `messages_per_day` does.",
      "type": "integer",
      "default": 0,
      "minimum": 0,
      "maximum": 1000000000000000000
    },
    "messages_per_day": {
      "description": "Most messages a day: events of backends, one for each channel, and events of clients. Once it is used up, events are refused with status 403 and new connections with 4004 until midnight UTC.",
      "type": "integer",
      "default": 0,
      "minimum": 0,
      "maximum": 1000000000000000000
    },
    "soft_bytes_per_month": {
      "description": "Bytes a month from which on operators are told, and nothing is refused.",
      "type": "integer",
      "default": 0,
      "minimum": 0,
      "maximum": 1000000000000000000
    },
    "soft_deliveries_per_day": {
      "description": "Deliveries a day from which on operators are told, and nothing is refused.",
      "type": "integer",
      "default": 0,
      "minimum": 0,
      "maximum": 1000000000000000000
    },
    "soft_messages_per_day": {
      "description": "Messages a day from which on operators are told, and nothing is refused.",
      "type": "integer",
      "default": 0,
      "minimum": 0,
      "maximum": 1000000000000000000
    }
  }
} as const;

/** All actions of the audit log. */
export const AUDIT_ACTIONS = [
  "alert.open",
  "alert.resolve",
  "alert.silence",
  "app.create",
  "app.delete",
  "app.update",
  "connection.close",
  "console.open",
  "event.publish",
  "event.simulate",
  "identity.update",
  "key.create",
  "key.revoke",
  "key.update",
  "master_key.rotate",
  "node.drain",
  "node.end_drain",
  "operator.create",
  "operator.delete",
  "operator.password",
  "operator.sign_in_link",
  "operator.update",
  "outbox.remove",
  "outbox.set",
  "session.create",
  "session.refuse",
  "session.reuse",
  "session.revoke",
  "session.revoke_all",
  "signing_key.create",
  "signing_key.rotate",
  "token.create",
  "token.revoke",
  "webhook.activate",
  "webhook.add_secret",
  "webhook.create",
  "webhook.delete",
  "webhook.disable",
  "webhook.pause",
  "webhook.replay",
  "webhook.test",
  "webhook.update"
] as const;
