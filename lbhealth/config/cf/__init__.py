"""The ldirectord.cf front-end, in the order in which a file passes through it.

    syntax    lines -> global directives and virtual sections, each word with its place
    settings  directives -> checked values (tables of all directives and their value rules)
    names     host names, service names -> numbers
    reals     a `real` line -> the servers that it stands for
    services  a service and its directives -> the kind and the settings of a checker
    checks    checktype, timeouts and service -> `Check` values, shared wherever they are equal
    lower     sections -> the model
    advice    what is allowed but surprising

All of it writes into one `Report`; nothing stops at the first fault.
"""
