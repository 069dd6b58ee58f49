# A plain WebSocket of docs/any-client.md through Ruby's faye-websocket.
require 'eventmachine'
require 'faye/websocket'
require 'json'

$stdout.sync = true
URL = JSON.parse(ENV['TARGET'])['socket']
$position = nil

def connect
  socket = Faye::WebSocket::Client.new(URL)
  socket.on(:open) do
    recover = $position ? { position: $position } : true
    socket.send({ type: 'subscribe', channel: 'kept-news', recover: recover }.to_json)
  end
  socket.on(:message) do |event|
    puts event.data
    message = JSON.parse(event.data)
    next unless message['channel'] == 'kept-news'
    data = message['data']
    $position = data['position'] if message['event'] == 'pusher:subscription_succeeded' && !data['recovered']
    $position = message['position'] || $position
  end
  socket.on(:close) do |event|
    puts "closed #{event.code} #{event.reason}"
    EventMachine.add_timer(1) { connect }
  end
end

EventMachine.run { connect }
