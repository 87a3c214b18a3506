"""Every diagnostic code and its title: the one list that both languages and the docs share.

LB1xx are about lines and words, LB2xx about ldirectord.cf alone, LB3xx about TOML alone,
LB4xx about what a configuration means.  A code never changes its meaning and is never reused.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["CODES"]

CODES: Mapping[str, str] = MappingProxyType(
    {
        # lines and words
        "LB101": "unknown directive",
        "LB102": "directive is not allowed in a virtual section",
        "LB103": "directive belongs in a virtual section",
        "LB104": "unknown scheduler",
        "LB105": "directive was removed",
        "LB106": "value is missing",
        "LB107": "not a number, or out of range",
        "LB108": "word is not one of those allowed",
        "LB109": "value needs double quotes",
        "LB110": "value is cut at a # inside quotes",
        "LB111": "indented line outside a virtual section",
        "LB112": "line ends are CR LF",
        "LB113": "blank line or too little indentation inside a section",
        "LB114": "text after the value is ignored",
        "LB115": "only the first digits of the value count",
        "LB116": "directive is given twice",
        "LB117": "comment after a global value",
        # ldirectord.cf
        "LB201": "virtual address has no port",
        "LB202": "malformed virtual service",
        "LB203": "address family does not fit the directive",
        "LB204": "malformed real server line",
        "LB205": "bad address range",
        "LB206": "malformed fallback",
        "LB207": "thresholds in an order that ldirectord misreads",
        "LB208": "protocol does not fit the virtual service",
        "LB209": "check type is read as a combined check",
        "LB210": "service is not supported",
        "LB211": "SQL check without login or request",
        "LB212": "DNS check without receive",
        "LB213": "mail check without login",
        "LB214": "external check without a command",
        "LB215": "check port is unknown",
        "LB216": "HEAD answers have no body to match",
        "LB217": "request names another server",
        "LB218": "setting has no effect here",
        "LB219": "no real servers",
        "LB220": "bare supervised",
        "LB280": "not acted on yet",
        "LB281": "judged by a simpler check until its own is available",
        "LB290": "extension of ldirectord's language",
        # TOML
        "LB301": "not valid TOML",
        "LB302": "unknown key",
        "LB303": "key is missing",
        "LB304": "wrong type of value",
        "LB305": "value out of range, or a word that is not allowed",
        "LB306": "malformed duration",
        "LB307": "keys contradict each other",
        "LB308": "unknown check type",
        "LB309": "value is not available yet",
        "LB310": "key has no effect here",
        "LB380": "not acted on yet",
        # meaning
        "LB401": "host name cannot be resolved",
        "LB402": "unknown port or service name",
        "LB403": "virtual service is defined twice",
        "LB404": "real server is listed twice",
        "LB405": "two servers share one kernel row",
        "LB406": "port is used for the check only",
        "LB407": "scheduler refuses clients at weight 0",
        "LB408": "unknown scheduler flag",
        "LB409": "lower threshold above the upper one",
        "LB410": "setting of a check is wrong",
        "LB411": "bad netmask",
        "LB412": "port 0 needs persistence",
        "LB413": "a parked server holds the fallback off",
        "LB414": "check type is not available",
        "LB415": "malformed address",
        "LB416": "IPv4 and IPv6 are mixed",
        "LB417": "tunnel settings do not fit",
        "LB418": "time-out is longer than the interval",
        "LB419": "fallback is one of the real servers",
        "LB420": "TCP check of a UDP service",
        "LB421": "setting is for UDP services only",
        "LB422": "virtual service has no real servers",
        "LB423": "check has no port",
        "LB424": "name is given twice",
        "LB425": "source or mark cannot reach this check",
    }
)
