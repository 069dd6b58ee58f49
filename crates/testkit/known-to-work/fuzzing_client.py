# Autobahn's fuzzing client (PyPI `autobahntestsuite`, which runs under Python 2.7 only) against a server that is no echo server.
#
#   python2.7 fuzzing_client.py PACKAGES ws://127.0.0.1:6001/app/KEY pusher OUT.json [CASE...]
#
# The cases, what they send and what they judge are Autobahn's own. Only what stands for an echo differs by `kind`:
#
#   echo    the server's messages as they are: another client sends each text back
#   pusher  the greeting is left out, and the codeless error that answers a text without meaning stands for its echo
#   engine  the same for Engine.IO: its first packet is left out, and nothing is echoed
import json
import site
import sys

PACKAGES, URL, KIND, OUT = sys.argv[1:5]
CASES = sys.argv[5:] or ['*']
# Not PYTHONPATH: zope's packages need their .pth file.
site.addsitedir(PACKAGES)
sys.path.insert(0, PACKAGES)

from twisted.internet import reactor

from autobahntestsuite import fuzzing, version
from autobahntestsuite.case import Cases


class Protocol(fuzzing.FuzzingClientProtocol):
    def connectionMade(self):
        self.sent = []  # texts that were sent whole, and are not answered yet
        self.texts = 0
        self.kinds = set()  # what kinds of messages were sent
        self.longest = 0
        self.errors = []
        self.parts = None
        fuzzing.FuzzingClientProtocol.connectionMade(self)

    def sendFrame(self, opcode, payload='', fin=True, *args, **kwargs):
        self.note(opcode, payload, fin, kwargs.get('payload_len'))
        return fuzzing.FuzzingClientProtocol.sendFrame(self, opcode, payload, fin, *args, **kwargs)

    def note(self, opcode, payload, fin, length):
        if opcode > 2:
            return
        if length is not None:
            payload = (payload * (length // max(len(payload), 1) + 1))[:length]
        if opcode:
            self.parts = []
            self.length = 0
            self.kinds.add('binary' if opcode == 2 else 'text')
            self.binary = opcode == 2
        if self.parts is None:
            return
        self.parts.append(payload)
        self.length += len(payload)
        self.longest = max(self.longest, self.length)
        if fin and not self.binary:
            self.sent.append(''.join(self.parts))
            self.texts += 1

    def onMessage(self, message, binary):
        if KIND == 'pusher' and not binary:
            event = json.loads(message)
            if event['event'] == 'pusher:connection_established':
                return
            if event['event'] == 'pusher:error':
                self.errors.append(event['data'])
                # Others say why the connection ends.
                if not self.sent or not event['data']['message'].startswith('Invalid message'):
                    return
                message = self.sent.pop(0)
        # What the case before has sent and not waited for comes back on the channel of all.
        if KIND == 'echo' and message not in self.sent and message in self.factory.sent_before:
            return
        if KIND == 'engine' and message.startswith('0{'):
            return
        fuzzing.FuzzingClientProtocol.onMessage(self, message, binary)


class Factory(fuzzing.FuzzingClientFactory):
    results = []
    sent_before = []

    def buildProtocol(self, addr):
        protocol = Protocol()
        protocol.factory = self
        protocol.caseAgent = self.agent
        protocol.case = self.currentCaseIndex
        protocol.Case = Cases[self.currentCaseIndex - 1]
        protocol.runCase = protocol.Case(protocol)
        self.protocol_of_case = protocol
        return protocol

    def logCase(self, result):
        protocol = self.protocol_of_case
        self.sent_before = protocol.sent
        self.results.append({
            'id': result['id'],
            'behavior': result['behavior'],
            'close': result['behaviorClose'],
            'result': result['result'],
            'resultClose': result['resultClose'],
            'code': result['remoteCloseCode'],
            'reason': result['remoteCloseReason'],
            'kinds': sorted(protocol.kinds),
            'texts': protocol.texts,
            'longest': protocol.longest,
            'errors': protocol.errors[:2],
            'milliseconds': result['duration'],
            'description': ' '.join(result['description'].split()),
        })
        # At once, so that a run that is interrupted has shown something.
        with open(OUT, 'w') as out:
            json.dump({'version': version, 'cases': self.results}, out)

    def createReports(self, *_):
        pass


class Echo(fuzzing.WebSocketClientProtocol):
    def onOpen(self):
        # The server reads nothing from a raw WebSocket before it is subscribed.
        self.sendPing('subscribed?')

    def onPong(self, payload):
        start()

    def onMessage(self, message, binary):
        self.sendMessage(message, binary)


def start():
    Factory({'servers': [{'agent': 'fanfare', 'url': URL}], 'cases': CASES})


if KIND == 'echo':
    echo = fuzzing.WebSocketClientFactory(URL)
    echo.protocol = Echo
    fuzzing.connectWS(echo)
else:
    start()
reactor.run()
