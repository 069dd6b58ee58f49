<?php
// Composer's pusher/pusher-php-server. SOURCES are folders with classes by namespace, as Composer would have loaded them.
spl_autoload_register(function ($class) {
    foreach (json_decode(getenv('SOURCES'), true) as [$prefix, $folder]) {
        $file = $folder . '/' . str_replace('\\', '/', substr($class, strlen($prefix))) . '.php';
        if (str_starts_with($class, $prefix) && is_file($file)) {
            require $file;
            return;
        }
    }
});
array_map(fn ($file) => require $file, json_decode(getenv('FUNCTIONS'), true));

$target = json_decode(getenv('TARGET'));
$pusher = new Pusher\Pusher($target->key, $target->secret, $target->id, [
    'host' => $target->host, 'port' => $target->port, 'scheme' => 'http', 'useTLS' => false,
]);
$about = json_decode($argv[1]);

function answer(Pusher\Pusher $pusher, object $about): mixed
{
    switch ($about->call) {
        case 'trigger':
            $params = isset($about->socketId) ? ['socket_id' => $about->socketId] : [];
            return $pusher->trigger($about->channels, $about->event, $about->data, $params);
        case 'batch':
            return $pusher->triggerBatch(array_map(fn ($event) => (array) $event, $about->batch));
        case 'channels':
            return $pusher->getChannels(['filter_by_prefix' => $about->prefix, 'info' => $about->info]);
        case 'channel':
            return $pusher->getChannelInfo($about->channel, ['info' => $about->info]);
        case 'members':
            return $pusher->getPresenceUsers($about->channel);
        case 'authorize':
            $isPresence = str_starts_with($about->channelName, 'presence-');
            $user = $about->user;
            return json_decode($isPresence
                ? $pusher->authorizePresenceChannel($about->channelName, $about->socketId, $user->user_id, $user->user_info)
                : $pusher->authorizeChannel($about->channelName, $about->socketId));
        case 'authenticate':
            return json_decode($pusher->authenticateUser($about->socketId, ['id' => $about->user->user_id]));
        case 'sendToUser':
            return $pusher->sendToUser($about->user, $about->event, $about->data);
        case 'terminate':
            return $pusher->terminateUserConnections($about->user);
        case 'webhook':
            try {
                return ['valid' => (bool) $pusher->webhook((array) headers($about->headers), $about->body)];
            } catch (Pusher\PusherException $error) {
                return ['valid' => false];
            }
    }
}

// Frameworks hand out names in the case in which the SDK looks for them.
function headers(object $headers): array
{
    return ['X-Pusher-Key' => $headers->{'x-pusher-key'}, 'X-Pusher-Signature' => $headers->{'x-pusher-signature'}];
}

try {
    echo json_encode(answer($pusher, $about)), "\n";
} catch (Throwable $error) {
    echo json_encode(['error' => get_class($error) . ': ' . $error->getMessage()]), "\n";
}
