"""One message of alarms as a mail, through the operator's mail server; taken means that it took the mail for at least one address.

STARTTLS or TLS from the start, with a certificate that is trusted and the server's; without either only where the operator says
so, and then never with a password. No error text holds the conversation with the server: the password is in it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import default
from email.utils import format_datetime
from importlib import import_module
from io import BytesIO
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IAddress, IResolutionReceiver
from twisted.internet.ssl import TLSVersion, optionsForClientTLS
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from broker.net.webhook import CONNECT_S, TOTAL_S, Untold, roots, why
from broker.notices import Message, headline, lines
from broker.settings import AlarmSettings, MailSettings

MOST_SAID: Final = 100  # characters of what a server says; the rest is for its own log


def mail_of(message: Message, settings: AlarmSettings, mail: MailSettings) -> bytes:
    """RFC 5322, with bare line feeds: the client puts the rest."""
    letter = EmailMessage(default)
    letter["Subject"] = headline(message, settings.name)
    letter["From"], letter["To"] = mail.sender, ", ".join(mail.to)
    letter["Date"] = format_datetime(datetime.fromtimestamp(max(one.at for one in message.notices), UTC))
    letter["Message-ID"] = f"<{message.id}@{mail.sender.rpartition('@')[2]}>"
    letter["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday answer is wanted
    letter.set_content("\n".join(lines(message)) + "\n", cte="quoted-printable")
    return letter.as_bytes()


@implementer(IResolutionReceiver)
class _Addresses:
    """What a name's lookup finds."""

    def __init__(self) -> None:
        self.found: Deferred[list[IAddress]] = Deferred()
        self._all: list[IAddress] = []

    def resolutionBegan(self, resolutionInProgress: object) -> None:
        """Nothing to remember: nobody ends it early."""

    def addressResolved(self, address: IAddress) -> None:
        self._all.append(address)

    def resolutionComplete(self) -> None:
        self.found.callback(self._all)


async def address_of(host: str, reactor: Any) -> str:
    """An address of this host: IPv4 if it has one, else IPv6. Twisted's own lookup in connectTCP knows IPv4 only. Raises DNSLookupError."""
    asked = _Addresses()
    reactor.nameResolver.resolveHostName(asked, host)
    found = await asked.found.addTimeout(CONNECT_S, reactor)
    for kind in (IPv4Address, IPv6Address):
        for one in found:
            if isinstance(one, kind):
                return str(one.host)
    raise DNSLookupError(host)


class Mail:
    """One recipient."""

    name = "mail"

    def __init__(self, settings: AlarmSettings, mail: MailSettings, reactor: Any, in_thread: Any) -> None:
        self._settings, self._mail, self._reactor, self._in_thread = settings, mail, reactor, in_thread

    def send(self, message: Message) -> Deferred[None]:
        """Fails with Untold. It may be cancelled."""
        return ensureDeferred(self._send(message))

    async def _send(self, message: Message) -> None:
        mail, begun = self._mail, self._reactor.seconds()
        options = optionsForClientTLS(
            mail.host, trustRoot=roots(self._settings.ca_file), extraCertificateOptions={"raiseMinimumTo": TLSVersion.TLSv1_2}
        )
        body = mail_of(message, self._settings, mail)
        # Imported it asks the resolver for our own name, which can take long: not on the reactor's thread.
        smtp = await self._in_thread(import_module, "twisted.mail.smtp")
        try:
            address = await address_of(mail.host, self._reactor)
        except (DNSLookupError, TimeoutError):
            raise Untold(f"{mail.host}: no such host is known") from None
        told: Deferred[Any] = Deferred()
        secure = mail.tls == "starttls"
        factory = smtp.ESMTPSenderFactory(
            mail.user.encode(), mail.password.encode() or None, mail.sender, mail.to, BytesIO(body), told,
            retries=0, timeout=2 * TOTAL_S, contextFactory=options if secure else None,
            requireAuthentication=bool(mail.user), requireTransportSecurity=secure,
        )  # fmt: skip
        factory.noisy = False
        dialled: Any = TLSMemoryBIOFactory(options, True, factory) if mail.tls == "implicit" else factory
        dialled.noisy = False
        connector = self._reactor.connectTCP(address, mail.port, dialled, timeout=CONNECT_S)
        try:
            await told.addTimeout(TOTAL_S, self._reactor)
        except Exception as error:
            late = self._reactor.seconds() - begun >= TOTAL_S - 0.001
            factory.sendFinished = True  # else it would tell `told` again, which has heard
            if factory.currentProtocol is not None and factory.currentProtocol.transport is not None:
                factory.currentProtocol.transport.abortConnection()
            connector.disconnect()
            raise Untold(f"{mail.host}: {'no answer in time' if late else self._why(error)}") from None

    def _why(self, error: BaseException) -> str:
        code, said = getattr(error, "code", None), getattr(error, "resp", b"")
        if isinstance(code, int) and code > 0:
            text = said.decode("ascii", "replace") if isinstance(said, bytes) else ""
            text = "".join(letter if letter.isprintable() else " " for letter in text)[:MOST_SAID]
            hides = self._mail.password and self._mail.password in text
            return f"answers {code} {'' if hides else text}".strip()
        return why(error.__cause__ or error)
