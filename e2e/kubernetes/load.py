"""Pairs of users who write to each other with `kurir chat --json`, and what became of each message."""

import asyncio
import json
import os
import time
from dataclasses import dataclass, field


@dataclass
class Counted:
    """One sender's messages, as their receiver sees them. Times in seconds."""

    sent: list = field(default_factory=list)
    received: set = field(default_factory=set)
    repeated: int = 0
    reordered: int = 0
    refused: int = 0
    # The longest time from typing to arrival, and when that message was typed.
    waits: list = field(default_factory=list)

    def arrived(self, number):
        if number in self.received:
            self.repeated += 1
            return
        self.reordered += bool(self.received) and number < max(self.received)
        self.received.add(number)
        self.waits.append((self.sent[number], time.monotonic() - self.sent[number]))


@dataclass
class Returned:
    """Somebody has a connection again, to a relay or to a manager. Times in seconds."""

    at: float
    to: str
    # Since the old relay connection has brought the last message or acknowledgement: what is longer than the pause between two of
    # these is the time without one.
    absent: float = 0.0
    # After the turn to leave, where one was told to.
    late: float = 0.0


class Person:
    """A terminal in which somebody chats."""

    def __init__(self, options, name):
        self.options, self.name = options, name
        self.process, self.reading = None, None
        # Set at the end, too.
        self.online = asyncio.Event()
        self.hears = {}
        self.place = 0
        self.refused = 0
        # Messages that a new connection began with, though they had come.
        self.again = 0
        self.returned = []
        # When the relay was last heard, and when it is this person's turn to leave a relay or manager.
        self.heard, self.turn = None, None

    async def start(self):
        state = os.path.join(self.options.state, f"{self.name}.jsonl")
        command = ["chat", "--json", "--register", "--tracker", self.options.tracker, "--user", self.name, "--state", state]
        log = open(os.path.join(self.options.state, f"{self.name}.log"), "w", encoding="utf-8")
        self.process = await asyncio.create_subprocess_exec(
            self.options.kurir,
            *command,
            env={**os.environ, "KURIR_PASSWORD": f"secret-of-{self.name}"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=1 << 20,
        )
        log.close()
        self.reading = asyncio.create_task(self.read())

    async def came_online(self):
        await self.online.wait()
        if not self.returned:
            await self.process.wait()
            raise RuntimeError(f"{self.name} did not come online: {self.complaints()}")

    def complaints(self):
        """What it has said on stderr."""
        with open(os.path.join(self.options.state, f"{self.name}.log"), encoding="utf-8") as log:
            return log.read().strip()

    async def read(self):
        with self.prints() as prints:
            async for line in self.process.stdout:
                prints.write(f"{time.time():.3f} {line.decode()}")
                packet = json.loads(line)
                if isinstance(packet, dict):
                    self.learn(packet)
        # Nobody is to wait for one who has gone.
        self.online.set()

    def prints(self):
        """Where all that it prints is kept, if it is."""
        folder = self.options.evidence
        return open(os.path.join(folder, f"{self.name}.prints") if folder else os.devnull, "w", encoding="utf-8")

    def learn(self, packet):
        match packet:
            case {"stanza": "stream", "type": "move", "after_ms": after}:
                self.turn = time.monotonic() + after / 1000
            # The relay has let it in: what is typed now goes out.
            case {"stanza": "stream", "type": "ready"}:
                self.returns("relay")
                self.online.set()
            case {"code": 200}:
                self.returns("manager")
            case {"event": "refused"}:
                self.refused += 1
            case {"stanza": "message"}:
                self.heard = time.monotonic()
                self.hear(packet)

    def returns(self, to):
        now = time.monotonic()
        absent = now - self.heard if to == "relay" and self.heard else 0.0
        late = max(now - self.turn, 0.0) if self.turn else 0.0
        self.turn = None
        self.returned.append(Returned(now, to, absent, late))

    def hear(self, packet):
        counted = self.hears.get(packet.get("from", "").partition("/")[0])
        if not counted or not (packet.get("body") or "").isdecimal():
            return
        # What comes again from a place passed is what a new connection begins with, and is shown to nobody.
        if packet["seq"] <= self.place:
            self.again += 1
            return
        self.place = packet["seq"]
        counted.arrived(int(packet["body"]))

    def type(self, line):
        self.process.stdin.write(f"{line}\n".encode())

    async def quit(self):
        if self.process.returncode is None:
            self.type("/quit")
            try:
                await asyncio.wait_for(self.process.wait(), 20)
            except asyncio.TimeoutError:
                self.process.kill()
                await self.process.wait()
        self.reading.cancel()


class Load:
    """`pairs` pairs, one of each of whom writes; together `rate` messages a second."""

    def __init__(self, options, pairs, rate):
        self.options, self.rate = options, rate
        self.writing = False
        self.senders = [Person(options, f"writer{n}") for n in range(pairs)]
        self.receivers = [Person(options, f"reader{n}") for n in range(pairs)]
        self.counted = [Counted() for _ in range(pairs)]

    async def start(self):
        everybody = self.everybody()
        for sender, receiver, counted in zip(self.senders, self.receivers, self.counted):
            receiver.hears[sender.name] = counted
        for person in everybody:
            await person.start()
        await asyncio.wait_for(asyncio.gather(*(person.came_online() for person in everybody)), 120)
        for sender, receiver in zip(self.senders, self.receivers):
            sender.type(f"/to {receiver.name}")

    async def write(self):
        """Writes until told to stop. What could not be written in time is written later: the rate is that over all."""
        self.writing = True
        began, written = time.monotonic(), 0
        while self.writing:
            due = int((time.monotonic() - began) * self.rate)
            for number in range(written, due):
                pair = number % len(self.senders)
                self.senders[pair].type(str(len(self.counted[pair].sent)))
                self.counted[pair].sent.append(time.monotonic())
            written = max(written, due)
            await asyncio.gather(*(sender.process.stdin.drain() for sender in self.senders))
            await asyncio.sleep(0.02)

    async def settle(self, within):
        """Waits until everything has arrived; seconds at most."""
        deadline = time.monotonic() + within
        while self.missing() and time.monotonic() < deadline:
            await asyncio.sleep(0.1)

    def sent(self):
        return sum(len(each.sent) for each in self.counted)

    def missing(self):
        return sum(len(each.sent) - len(each.received) for each in self.counted)

    def unruly(self):
        """Repeated, reordered, refused."""
        refused = sum(sender.refused for sender in self.senders)
        return sum(each.repeated for each in self.counted), sum(each.reordered for each in self.counted), refused

    def longest_wait(self, since):
        """The longest that a message took that was typed after `since`."""
        waits = [wait for each in self.counted for typed, wait in each.waits if typed >= since]
        return max(waits, default=0.0)

    def returned(self, since):
        """Who has a connection again, after `since`."""
        return [each for person in self.everybody() for each in person.returned if each.at >= since]

    def again(self):
        """How many messages new connections began with though they had come on the one before."""
        return sum(receiver.again for receiver in self.receivers)

    def everybody(self):
        return self.senders + self.receivers

    async def stop(self):
        await asyncio.gather(*(person.quit() for person in self.everybody()))
