# A plain WebSocket of docs/any-client.md through tcllib's websocket.
package require websocket
package require json

regexp {"socket":"([^"]+)"} $env(TARGET) -> url
set position ""

proc handle {sock type msg} {
  global position
  switch $type {
    connect {
      set recover [expr {$position eq "" ? "true" : "{\"position\":\"$position\"}"}]
      websocket::send $sock text "{\"type\":\"subscribe\",\"channel\":\"kept-news\",\"recover\":$recover}"
    }
    text {
      puts $msg
      flush stdout
      set message [json::json2dict $msg]
      if {![dict exists $message channel] || [dict get $message channel] ne "kept-news"} return
      set of [dict get $message data]
      if {[dict get $message event] eq "pusher:subscription_succeeded" && ![dict exists $of recovered]} { set position [dict get $of position] }
      if {[dict exists $message position]} { set position [dict get $message position] }
    }
    close - disconnect - error - timeout { puts "$type $msg"; flush stdout; again }
  }
}
proc again {} {
  after cancel connect
  after 1000 connect
}
proc connect {} {
  if {[catch { websocket::open $::url handle } problem]} { puts $problem; flush stdout; again }
}
connect
vwait forever
