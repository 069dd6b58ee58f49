# The gem pusher-client. It doesn't connect again by itself, so the program makes a new socket.
require 'json'
require 'net/http'
require 'pusher-client'

$stdout.sync = true
TARGET = JSON.parse(ENV['TARGET'])
PusherClient.logger.level = 4
MEMBER = { user_id: 'ada' }.freeze

def show(event, channel, data)
  puts({ event: event, channel: channel, data: data }.to_json)
end

loop do
  socket = PusherClient::Socket.new(TARGET['key'], ws_host: TARGET['host'], ws_port: TARGET['port'], secret: TARGET['secret'])
  TARGET['channels'].each do |name|
    channel = socket.subscribe(name, name.start_with?('presence-') ? MEMBER : nil)
    channel.bind('pusher_internal:subscription_succeeded') { |data| show('pusher:subscription_succeeded', name, data) }
    channel.bind('tick') { |data| show('tick', name, data) }
  end
  socket.connect
rescue StandardError => error
  puts "ended: #{error.class} #{error.message}"
  sleep 1
end
