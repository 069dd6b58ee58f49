# The gem pusher.
require 'json'
require 'pusher'

target = JSON.parse(ENV['TARGET'])
pusher = Pusher::Client.new(
  app_id: target['id'], key: target['key'], secret: target['secret'], host: target['host'], port: target['port'], use_tls: false
)
about = JSON.parse(ARGV[0])
of = ->(name) { about[name] }

begin
  answer =
    case of['call']
    when 'trigger'
      pusher.trigger(of['channels'], of['event'], of['data'], of['socketId'] ? { socket_id: of['socketId'] } : {})
    when 'batch'
      pusher.trigger_batch(of['batch'].map { |event| event.transform_keys(&:to_sym) })
    when 'channels'
      pusher.channels(filter_by_prefix: of['prefix'], info: of['info'])
    when 'channel'
      pusher.channel_info(of['channel'], info: of['info'])
    when 'members'
      pusher.channel_users(of['channel'])
    when 'authorize'
      user = of['channelName'].start_with?('presence-') ? of['user'] : nil
      pusher.authenticate(of['channelName'], of['socketId'], user)
    when 'authenticate'
      pusher.authenticate_user(of['socketId'], { id: of['user']['user_id'] })
    when 'sendToUser'
      # It has no method of its own, and such events are events of a channel.
      pusher.trigger("#server-to-user-#{of['user']}", of['event'], of['data'])
    when 'terminate'
      { notOffered: true }
    when 'webhook'
      headers = of['headers']
      webhook = pusher.webhook(
        key: headers['x-pusher-key'], signature: headers['x-pusher-signature'], body: of['body'], content_type: headers['content-type']
      )
      { valid: webhook.valid? }
    end
rescue StandardError => error
  answer = { error: "#{error.class}: #{error.message}" }
end
puts answer.to_json
