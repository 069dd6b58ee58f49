# A plain WebSocket of docs/any-client.md through Mojo::UserAgent.
use Mojo::Base -strict;
use Mojo::IOLoop;
use Mojo::JSON qw(decode_json encode_json true);
use Mojo::UserAgent;

$| = 1;
my $url = decode_json($ENV{TARGET})->{socket};
my $ua = Mojo::UserAgent->new;
my $position;

sub again { Mojo::IOLoop->timer(1 => \&connect_again) }

sub connect_again {
  $ua->websocket($url => sub {
    my ($ua, $tx) = @_;
    return say('no WebSocket'), again() unless $tx->is_websocket;
    $tx->on(finish => sub { my ($tx, $code, $reason) = @_; say "closed $code ", $reason // ''; again() });
    $tx->on(text => sub {
      my ($tx, $bytes) = @_;
      say $bytes;
      my $message = decode_json $bytes;
      return unless ($message->{channel} // '') eq 'kept-news';
      $position = $message->{data}{position} if $message->{event} eq 'pusher:subscription_succeeded' && !$message->{data}{recovered};
      $position = $message->{position} // $position;
    });
    $tx->send({json => {type => 'subscribe', channel => 'kept-news', recover => $position ? {position => $position} : true}});
  });
}

connect_again();
Mojo::IOLoop->start;
