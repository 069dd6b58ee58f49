# A plain WebSocket of docs/any-client.md through AnyEvent::WebSocket::Client.
use strict;
use warnings;
use AnyEvent;
use AnyEvent::WebSocket::Client;
use JSON::PP;

$| = 1;
my $url = decode_json($ENV{TARGET})->{socket};
my $client = AnyEvent::WebSocket::Client->new;
my ($connection, $position, $timer);

sub again { $timer = AnyEvent->timer(after => 1, cb => \&connect_again) }

sub connect_again {
  $client->connect($url)->cb(sub {
    $connection = eval { shift->recv };
    return print("error $@"), again() unless $connection;
    $connection->on(finish => sub { my ($of) = @_; print 'closed ', $of->close_code // '', "\n"; again() });
    $connection->on(each_message => sub {
      my $text = $_[1]->body;
      print "$text\n";
      my $message = decode_json $text;
      return unless ($message->{channel} // '') eq 'kept-news';
      $position = $message->{data}{position} if $message->{event} eq 'pusher:subscription_succeeded' && !$message->{data}{recovered};
      $position = $message->{position} // $position;
    });
    my $recover = $position ? {position => $position} : JSON::PP::true;
    $connection->send(encode_json {type => 'subscribe', channel => 'kept-news', recover => $recover});
  });
}

connect_again();
AnyEvent->condvar->recv;
