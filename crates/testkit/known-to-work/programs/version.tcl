puts [package require websocket]
