"""What lbhealth and the judges say of the same servers: the table that reality must equal.

The last column names the reason of a difference, which `WHY` explains.  The page
docs/reference/judges.md holds the same; `python -m tests.judges.table` prints it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    protocol: str
    asked: str
    state: str
    ours: str
    theirs: str
    why: str = ""

    @property
    def key(self):
        return (self.protocol, self.asked, self.state)

    def __str__(self):
        return " ".join(self.key).replace(" ", "-")

    @property
    def agrees(self):
        """Whether both take the server for good, or both for bad."""
        good = {"UP": True, "OK": True, "WARNING": True, "DOWN": False, "CRITICAL": False}
        return good.get(self.theirs.split()[0]) is self.ours.startswith("PASS")

    @property
    def same_status(self):
        """Whether HAProxy's status is lbhealth's; the plug-ins have none."""
        _, _, status = self.theirs.partition(" ")
        return status in ("", self.ours.split()[1])

    @property
    def shown(self):
        verdict = "agree" if self.agrees else "**differ**"
        word = verdict if self.agrees and self.same_status else f"{verdict}: {self.why}"
        return f"| {' | '.join((*self.key, self.ours, self.theirs, word))} |"


def rows(text):
    return [Row(*map(str.strip, line.split("|"))) for line in text.strip().splitlines()]


HAPROXY = rows("""
tcp | connect | running | PASS L4OK | UP L4OK |
tcp | connect | stopped | PASS L4OK | UP L4OK |
tcp | connect | refused | FAIL L4CON | DOWN L4CON |
http | GET /ok | running | PASS L7OK | UP L7OK |
http | GET /ok | stopped | FAIL L7TOUT | DOWN L7TOUT |
http | GET /ok | refused | FAIL L4CON | DOWN L4CON |
http | answer 503 | running | FAIL L7STS | DOWN L7STS |
http | answer 404 | running | FAIL L7STS | DOWN L7STS |
http | answer 204 | running | PASS L7OK | UP L7OK |
http | redirect to /ok on the same server | running | PASS L7OK | UP L7OK |
http | redirect to another server | running | FAIL L7STS | UP L7OK | redirects
http | redirect in a circle | running | FAIL L7STS | UP L7OK | redirects
http | header at one byte a second | running | FAIL L7TOUT | DOWN L7TOUT |
http | 503 where 503 is expected | running | PASS L7OK | UP L7OK |
http | body with the text | running | PASS L7OK | UP L7OK |
http | body without the text | running | FAIL L7RSP | DOWN L7RSP |
http | 503 with the expected text | running | FAIL L7STS | UP L7OK | text alone
http | text after 3 MB of body | running | FAIL L7RSP | DOWN L7RSP |
http | TLS port asked without TLS | running | FAIL L7STS | DOWN L7STS |
https | GET /ok | running | PASS L7OK | UP L7OK |
https | GET /ok | stopped | FAIL L6TOUT | DOWN L6TOUT |
https | GET /ok | refused | FAIL L4CON | DOWN L4CON |
https | certificate of a known authority | running | PASS L7OK | UP L7OK |
https | certificate for another name | running | FAIL L6RSP | UP L7OK | no name
https | certificate for another name, with verifyhost | running | FAIL L6RSP | DOWN L6RSP |
https | expired certificate, verified | running | FAIL L6RSP | DOWN L6RSP |
https | expired certificate, not verified | running | PASS L7OK | UP L7OK |
https | TLS on a port without it | running | FAIL L6RSP | DOWN L6RSP |
smtp | greeting and EHLO | running | PASS L7OK | UP L7OK |
smtp | greeting and EHLO | stopped | FAIL L7TOUT | DOWN L7TOUT |
smtp | greeting and EHLO | refused | FAIL L4CON | DOWN L4CON |
smtp | greeting 554 | running | FAIL L7STS | DOWN L7STS |
smtp | refused name in EHLO | running | FAIL L7STS | DOWN L7TOUT | waits
smtp | wrong password | running | FAIL L7STS | UP L7OK | no login
imap | greeting | running | PASS L7OK | UP L7OK |
imap | greeting | stopped | FAIL L7TOUT | DOWN L7TOUT |
imap | greeting | refused | FAIL L4CON | DOWN L4CON |
imap | login | running | PASS L7OK | UP L7OK |
imap | wrong password | running | FAIL L7STS | DOWN L7TOUT | waits
imaps | greeting | running | PASS L7OK | UP L7OK |
imaps | greeting | stopped | FAIL L6TOUT | DOWN L6TOUT |
imaps | greeting | refused | FAIL L4CON | DOWN L4CON |
pop | greeting | running | PASS L7OK | UP L7OK |
pop | greeting | stopped | FAIL L7TOUT | DOWN L7TOUT |
pop | greeting | refused | FAIL L4CON | DOWN L4CON |
pop | wrong password | running | FAIL L7STS | DOWN L7TOUT | waits
pops | greeting | running | PASS L7OK | UP L7OK |
pops | greeting | stopped | FAIL L6TOUT | DOWN L6TOUT |
pops | greeting | refused | FAIL L4CON | DOWN L4CON |
ftp | greeting; lbhealth also logs in | running | PASS L7OK | UP L7OK |
ftp | greeting; lbhealth also logs in | stopped | FAIL L7TOUT | DOWN L7TOUT |
ftp | greeting; lbhealth also logs in | refused | FAIL L4CON | DOWN L4CON |
ftp | wrong password | running | FAIL L7STS | DOWN L7TOUT | waits
nntp | greeting | running | PASS L7OK | UP L7OK |
nntp | greeting | stopped | FAIL L7TOUT | DOWN L7TOUT |
nntp | greeting | refused | FAIL L4CON | DOWN L4CON |
ldap | anonymous bind | running | PASS L7OK | UP L7OK |
ldap | anonymous bind | stopped | FAIL L7TOUT | DOWN L7TOUT |
ldap | anonymous bind | refused | FAIL L4CON | DOWN L4CON |
ldap | anonymous bind refused | running | FAIL L7STS | DOWN L7STS |
ldap | wrong password | running | FAIL L7STS | UP L7OK | no login
ldap | missing entry | running | FAIL L7STS | UP L7OK | no search
ldaps | anonymous bind | running | PASS L7OK | UP L7OK |
ldaps | anonymous bind | stopped | FAIL L6TOUT | DOWN L6TOUT |
ldaps | anonymous bind | refused | FAIL L4CON | DOWN L4CON |
mysql | greeting | running | PASS L7OK | UP L7OK |
mysql | greeting | stopped | FAIL L7TOUT | DOWN L7TOUT |
mysql | greeting | refused | FAIL L4CON | DOWN L4CON |
mysql | account without a password | running | PASS L7OK | UP L7OK |
mysql | right password | running | PASS L7OK | DOWN L7STS | no password
mysql | wrong password | running | FAIL L7STS | DOWN L7STS |
mysql | greetings only, max_connect_errors 1 | running | PASS L7OK | DOWN L7STS | blocked
pgsql | server asks for a password | running | PASS L7OK | UP L7OK |
pgsql | server asks for a password | stopped | FAIL L7TOUT | DOWN L7TOUT |
pgsql | server asks for a password | refused | FAIL L4CON | DOWN L4CON |
pgsql | wrong password | running | FAIL L7STS | UP L7OK | no login
redis | PING | running | PASS L7OK | UP L7OK |
redis | PING | stopped | FAIL L7TOUT | DOWN L7TOUT |
redis | PING | refused | FAIL L4CON | DOWN L4CON |
redis | PING where a password is wanted | running | FAIL L7STS | DOWN L7TOUT | waits
redis | right password | running | PASS L7OK | UP L7OK |
redis | wrong password | running | FAIL L7STS | DOWN L7TOUT | waits
dns | A record, over TCP | running | PASS L7OK | UP L7OK |
dns | A record, over TCP | stopped | FAIL L7TOUT | DOWN L7TOUT |
dns | A record, over TCP | refused | FAIL L4CON | DOWN L4CON |
dns | zone that does not load (SERVFAIL) | running | FAIL L7STS | DOWN L7TOUT | waits
dns | name without an A record (no data) | running | FAIL L7RSP | UP L7OK | bytes
""")

PLUGINS = rows("""
tcp | connect | running | PASS L4OK | OK |
tcp | connect | stopped | PASS L4OK | OK |
tcp | connect | refused | FAIL L4CON | CRITICAL |
http | GET /ok | running | PASS L7OK | OK |
http | GET /ok | stopped | FAIL L7TOUT | CRITICAL |
http | GET /ok | refused | FAIL L4CON | CRITICAL |
http | answer 503 | running | FAIL L7STS | CRITICAL |
http | answer 404 | running | FAIL L7STS | WARNING | only a warning
http | answer 204 | running | PASS L7OK | OK |
http | redirect to /ok, followed | running | PASS L7OK | OK |
http | redirect to another server, not followed | running | FAIL L7STS | OK | redirects
http | redirect in a circle, followed | running | FAIL L7STS | CRITICAL |
http | header at one byte a second | running | FAIL L7TOUT | CRITICAL |
http | 503 where 503 is expected | running | PASS L7OK | OK |
http | body with the text | running | PASS L7OK | OK |
http | body without the text | running | FAIL L7RSP | CRITICAL |
http | 503 with the expected text | running | FAIL L7STS | CRITICAL |
http | text after 3 MB of body | running | FAIL L7RSP | OK | first megabyte
https | GET /ok | running | PASS L7OK | OK |
https | GET /ok | stopped | FAIL L6TOUT | CRITICAL |
https | GET /ok | refused | FAIL L4CON | CRITICAL |
https | expired certificate, not verified | running | PASS L7OK | OK |
https | expired certificate, verified | running | FAIL L6RSP | CRITICAL |
https | certificate of an unknown authority, verified | running | FAIL L6RSP | OK | dates alone
https | TLS on a port without it | running | FAIL L6RSP | CRITICAL |
smtp | greeting and EHLO | running | PASS L7OK | OK |
smtp | greeting and EHLO | stopped | FAIL L7TOUT | CRITICAL |
smtp | greeting and EHLO | refused | FAIL L4CON | CRITICAL |
smtp | greeting 554 | running | FAIL L7STS | WARNING | only a warning
smtp | STARTTLS | running | PASS L7OK | OK |
smtp | STARTTLS where there is none | running | FAIL L7STS | WARNING | only a warning
smtp | right password | running | PASS L7OK | OK |
smtp | wrong password | running | FAIL L7STS | CRITICAL |
imap | greeting | running | PASS L7OK | OK |
imap | greeting | stopped | FAIL L7TOUT | CRITICAL |
imap | greeting | refused | FAIL L4CON | CRITICAL |
imap | wrong password | running | FAIL L7STS | WARNING | only a warning
imaps | greeting | running | PASS L7OK | OK |
imaps | greeting | stopped | FAIL L6TOUT | CRITICAL |
imaps | greeting | refused | FAIL L4CON | CRITICAL |
pop | greeting | running | PASS L7OK | OK |
pop | greeting | stopped | FAIL L7TOUT | CRITICAL |
pop | greeting | refused | FAIL L4CON | CRITICAL |
pops | greeting | running | PASS L7OK | OK |
pops | greeting | stopped | FAIL L6TOUT | CRITICAL |
pops | greeting | refused | FAIL L4CON | CRITICAL |
ftp | greeting; lbhealth also logs in | running | PASS L7OK | OK |
ftp | greeting; lbhealth also logs in | stopped | FAIL L7TOUT | CRITICAL |
ftp | greeting; lbhealth also logs in | refused | FAIL L4CON | CRITICAL |
ftp | wrong password | running | FAIL L7STS | OK | no login
nntp | greeting | running | PASS L7OK | OK |
nntp | greeting | stopped | FAIL L7TOUT | CRITICAL |
nntp | greeting | refused | FAIL L4CON | CRITICAL |
ldap | entry, read anonymously | running | PASS L7OK | OK |
ldap | entry, read anonymously | stopped | FAIL L7TOUT | CRITICAL |
ldap | entry, read anonymously | refused | FAIL L4CON | CRITICAL |
ldap | entry, read with a password | running | PASS L7OK | OK |
ldap | wrong password | running | FAIL L7STS | CRITICAL |
ldap | missing entry | running | FAIL L7STS | CRITICAL |
ldap | anonymous bind refused | running | FAIL L7STS | CRITICAL |
ldaps | entry, not verified | running | PASS L7OK | OK |
ldaps | entry, not verified | stopped | FAIL L6TOUT | CRITICAL |
ldaps | entry, not verified | refused | FAIL L4CON | CRITICAL |
mysql | login | running | PASS L7OK | OK |
mysql | login | stopped | FAIL L7TOUT | no end | no time-out
mysql | login | refused | FAIL L4CON | CRITICAL |
mysql | wrong password | running | FAIL L7STS | CRITICAL |
mysql | greeting; the plug-in is refused, which it ignores | running | PASS L7OK | OK |
mysql | missing database | running | FAIL L7STS | CRITICAL |
mysql | query with a row | running | PASS L7OK | OK |
mysql | query without a row | running | FAIL L7RSP | WARNING | only a warning
pgsql | login | running | PASS L7OK | OK |
pgsql | login | stopped | FAIL L7TOUT | CRITICAL |
pgsql | login | refused | FAIL L4CON | CRITICAL |
pgsql | wrong password | running | FAIL L7STS | CRITICAL |
pgsql | query with a row | running | PASS L7OK | OK |
pgsql | query without a row | running | FAIL L7RSP | WARNING | only a warning
pgsql | query that fails | running | FAIL L7STS | CRITICAL |
dns | A record | running | PASS L7OK | OK |
dns | A record | stopped | FAIL L7TOUT | CRITICAL |
dns | A record | refused | FAIL L4CON | WARNING | only a warning
dns | A record with the address | running | PASS L7OK | OK |
dns | A record with another address | running | FAIL L7RSP | WARNING | only a warning
dns | name without an A record (no data) | running | FAIL L7RSP | CRITICAL |
dns | missing name (NXDOMAIN) | running | FAIL L7STS | CRITICAL |
dns | zone that does not load (SERVFAIL) | running | FAIL L7STS | CRITICAL |
dns | foreign zone (REFUSED) | running | FAIL L7STS | CRITICAL |
""")

WHY = {
    "bytes": "A rule of `tcp-check` compares bytes; this one looks at the response code, which is"
    " NOERROR. lbhealth reads the answer and misses the record.",
    "dates alone": "`check_http -C` looks at the dates of a certificate, not at who issued it or"
    " for what name. lbhealth's `verify` looks at all three.",
    "first megabyte": "lbhealth searches the first megabyte of a body, so that no server can fill"
    " its memory; `check_http` reads all of it. Put the text near the beginning.",
    "blocked": "Without a user `option mysql-check` hangs up after the greeting. The"
    " server counts that as an error, and after `max_connect_errors` of them it refuses"
    " whatever comes from the load balancer's address, clients' connections through it included."
    " lbhealth goes through with the login,"
    " is refused, and is not counted.",
    "no login": "The judge looks at the protocol's first steps only and has no password to give."
    " lbhealth logs in when `login` is set.",
    "no name": "HAProxy compares the name in the certificate only where `verifyhost` or an SNI"
    " gives one to compare with; lbhealth's `verify` always does.",
    "no password": "`option mysql-check` knows users without a password only; for others it takes"
    " a good server for bad. lbhealth logs in as `login` with `password`.",
    "no search": "`option ldap-check` ends with the bind. lbhealth looks for the entry `request`.",
    "no time-out": "`check_mysql` has no setting for a time-out and waits for as long as the"
    " server is silent; the test ends it after three seconds. lbhealth's checks end at the"
    " deadline. Where the plug-in runs as an `external` check, lbhealth ends it too.",
    "only a warning": "The plug-in warns (its guidelines: beyond a threshold, or not working"
    " properly) where lbhealth's check says FAIL. As an `external` check with the"
    " convention `exit` a warning is FAIL, with `monitoring-plugins` it is PASS: think of it when"
    " you move from one to the other.",
    "redirects": "The judge takes 3xx for an answer as good as 2xx. lbhealth follows redirects on"
    " the same server, judges where they end, and fails one that leads elsewhere or nowhere; to"
    ' be content with a redirect, set `status = ["300-399"]`.',
    "text alone": "In HAProxy any `http-check expect` takes the place of the rule about the status."
    " In lbhealth whatever is asked for must hold, and the status must be good besides.",
    "waits": "A rule of `tcp-check` that does not match waits for more bytes until the time-out,"
    " and so do `smtpchk` and `redis-check`, which are made of such rules: a server that refuses"
    " and stays connected ends as `L7TOUT`. lbhealth knows a whole answer when it sees it, fails"
    " at once and gives the server's reason.",
}


def page_table(table, judge):
    head = f"| check | asked | server | lbhealth | {judge} | |\n|---|---|---|---|---|---|"
    return "\n".join([head, *(row.shown for row in table)])


def page_reasons():
    head = "| difference | explanation |\n|---|---|"
    return "\n".join([head, *(f"| {why} | {text} |" for why, text in WHY.items())])


if __name__ == "__main__":
    for part in (page_reasons(), page_table(HAPROXY, "HAProxy"), page_table(PLUGINS, "plug-in")):
        print(part, end="\n\n")
