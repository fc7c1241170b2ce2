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


class Person:
    """A terminal in which somebody chats."""

    def __init__(self, options, name):
        self.options, self.name = options, name
        self.process, self.reading = None, None
        self.online = asyncio.Event()
        self.hears = {}
        self.place = 0
        self.refused = 0

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

    async def read(self):
        async for line in self.process.stdout:
            packet = json.loads(line)
            if isinstance(packet, list):
                continue
            # The relay has let it in: what is typed now goes out.
            if packet.get("stanza") == "stream" and packet.get("type") == "ready":
                self.online.set()
            if packet.get("event") == "refused":
                self.refused += 1
            counted = self.hears.get(packet.get("from", "").partition("/")[0])
            if counted and packet.get("stanza") == "message" and (packet.get("body") or "").isdecimal():
                # What comes again from a place passed is what a new connection begins with, and is shown to nobody.
                if packet["seq"] > self.place:
                    self.place = packet["seq"]
                    counted.arrived(int(packet["body"]))
        # Nobody is to wait for one who has gone.
        self.online.set()

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
        everybody = self.senders + self.receivers
        for sender, receiver, counted in zip(self.senders, self.receivers, self.counted):
            receiver.hears[sender.name] = counted
        for person in everybody:
            await person.start()
        await asyncio.wait_for(asyncio.gather(*(person.online.wait() for person in everybody)), 120)
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

    async def stop(self):
        await asyncio.gather(*(person.quit() for person in self.senders + self.receivers))
