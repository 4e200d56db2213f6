# ruff: noqa: E501 - the rows are wide so that the table can be read
"""Who may do what: every route and every frame, by role and by whose object it is.

`own` is the asker's, `another's` of the same tenant, `tenant` another tenant's, `city` another
city's, which the same process serves. An order of the hall is `own` while it waits and `another's`
when somebody has it; an endpoint is its tenant's. Each cell has the status of customer, merchant,
rider, operator and integrator, in this order; `.` where there is no such object. A route or a frame
without a row fails the test.
"""

ROLES = ("customer", "merchant", "rider", "operator", "integrator")
WHOSE = ("own", "another's", "tenant", "city")

NOBODY = "403 403 403 403 403"
OPERATOR = "403 403 403 200 403"
BUYERS = "200 200 403 200 200"
HEARERS = "403 403 403 200 200"
HIDDEN = "403 403 403 404 404"
RIDER = "4403 4403 ok 4403 4403"
REFUSED = "4403 4403 no 4403 4403"

# fmt: off
ROUTES = {
    #                                     own                    another's              tenant                 city
    "POST /v1/quotes":                   (BUYERS,                "422 422 403 200 200", ".",                   "."),
    "POST /v1/orders":                   ("201 201 403 201 201", "422 422 403 201 201", ".",                   "."),
    "GET /v1/orders/{order_id}":         ("200 200 200 200 200", "403 403 403 200 200", NOBODY,                NOBODY),
    "POST /v1/orders/{order_id}/cancel": (BUYERS,                "403 403 403 200 200", NOBODY,                NOBODY),
    "GET /v1/orders/{order_id}/contacts":  ("200 200 200 200 200", "403 403 403 200 200", NOBODY,              NOBODY),
    "GET /v1/orders/{order_id}/transfers": (BUYERS,              "403 403 403 200 200", NOBODY,                NOBODY),
    "GET /v1/hall":                      ("403 403 200 403 403", ".",                   "403 403 404 403 403", "403 403 404 403 403"),
    "POST /v1/orders/{order_id}/claim":  ("403 403 200 403 403", "403 403 409 403 403", "403 403 404 403 403", "403 403 404 403 403"),
    "POST /v1/payments/notices":         ("403 403 403 403 201", "403 403 403 403 409", "403 403 403 403 404", "403 403 403 403 404"),
    # Erasing reaches all cities of the tenant: see test_cities.py.
    "POST /v1/erasures":                 ("200 403 200 200 403", OPERATOR,              ".",                   "."),
    "GET /v1/events":                    ("403 403 403 200 200", ".",                   ".",                   "."),
    "POST /v1/riders":                   ("403 403 200 200 403", OPERATOR,              "403 403 409 409 403", "403 403 409 409 403"),
    "GET /v1/riders/{rider_id}":         ("403 403 200 200 403", OPERATOR,              NOBODY,                NOBODY),
    "POST /v1/riders/{rider_id}/shift":  ("403 403 200 200 403", OPERATOR,              NOBODY,                NOBODY),
    "GET /v1/city/{city}/status":        (OPERATOR,              ".",                   ".",                   NOBODY),
    "POST /v1/keys":                     ("403 403 403 201 403", ".",                   ".",                   "."),
    "GET /v1/keys":                      (OPERATOR,              ".",                   ".",                   "."),
    "DELETE /v1/keys/{key_id}":          ("403 403 403 204 403", "403 403 403 204 403", NOBODY,                NOBODY),
    # Tokens are made by API keys only: see test_keys.py.
    "POST /v1/tokens":                   (NOBODY,                ".",                   ".",                   "."),
    "POST /v1/tokens/revoke":            ("403 403 403 200 200", ".",                   ".",                   "."),
    "GET /v1/audit":                     (OPERATOR,              ".",                   ".",                   "."),
    "POST /v1/webhooks":                 ("403 403 403 201 201", ".",                   ".",                   "."),
    "GET /v1/webhooks":                  (HEARERS,               ".",                   ".",                   "."),
    "GET /v1/webhooks/{endpoint_id}":    (HEARERS,               ".",                   HIDDEN,                HIDDEN),
    "PATCH /v1/webhooks/{endpoint_id}":  (HEARERS,               ".",                   HIDDEN,                HIDDEN),
    "DELETE /v1/webhooks/{endpoint_id}": ("403 403 403 204 204", ".",                   HIDDEN,                HIDDEN),
    "POST /v1/webhooks/{endpoint_id}/rotate-secret":                 (HEARERS, ".", HIDDEN, HIDDEN),
    "POST /v1/webhooks/{endpoint_id}/pause":                         (HEARERS, ".", HIDDEN, HIDDEN),
    "POST /v1/webhooks/{endpoint_id}/resume":                        (HEARERS, ".", HIDDEN, HIDDEN),
    "POST /v1/webhooks/{endpoint_id}/probe":                         (HEARERS, ".", HIDDEN, HIDDEN),
    "GET /v1/webhooks/{endpoint_id}/deliveries":                     (HEARERS, ".", HIDDEN, HIDDEN),
    "GET /v1/webhooks/{endpoint_id}/dead-letters":                   (HEARERS, ".", HIDDEN, HIDDEN),
    "POST /v1/webhooks/{endpoint_id}/dead-letters/retry":            (HEARERS, ".", HIDDEN, HIDDEN),
    "POST /v1/webhooks/{endpoint_id}/dead-letters/{position}/retry": (HEARERS, ".", HIDDEN, HIDDEN),
}

# What the answers that have texts show of an order under way, by role and by whose it is: `all`; with
# names and phones `masked`; with `names` masked and no phones; masked names `only`; `.` nothing.
SEEN = {
    "GET /v1/orders/{order_id}":         ("all masked names all all", ". . . all all", ". . . . .", ". . . . ."),
    "POST /v1/orders/{order_id}/cancel": ("all masked . all all",     ". . . all all", ". . . . .", ". . . . ."),
    "POST /v1/orders/{order_id}/claim":  (". . names . .",            ". . . . .",     ". . . . .", ". . . . ."),
    "GET /v1/orders/{order_id}/contacts": ("only only only only only", ". . . only only", ". . . . .", ". . . . ."),
}

# No token needed, and nothing of anybody's told.
PUBLIC = {
    "GET /livez", "GET /readyz", "GET /openapi.json", "GET /metrics",
    "GET /", "GET /console", "GET /console/{path:path}",
}

# What comes back: the type of the message, the code of a result or error, or of the close.
FRAMES = {
    #              own                              another's                 tenant              city
    "hello":      ("error error error error error", ".",                      ".",                "."),
    "heartbeat":  ("ack ack ack ack ack",           ".",                      ".",                "."),
    "fixes":      ("4403 4403 ack 4403 4403",       ".",                      ".",                "."),
    "accept":     (RIDER,                           REFUSED,                  REFUSED,            REFUSED),
    "decline":    (RIDER,                           REFUSED,                  REFUSED,            REFUSED),
    "claim":      (RIDER,                           REFUSED,                  REFUSED,            REFUSED),
    "stop":       (RIDER,                           REFUSED,                  REFUSED,            REFUSED),
    "watch":      ("order order 4403 order order",  "no no 4403 order order", "no no 4403 no no", "no no 4403 no no"),
    "watch_city": ("4403 4403 4403 city 4403",      ".",                      ".",                "."),
}
# fmt: on

# What a token that is scoped to orders may ask for.
SCOPED_ROUTES = {"GET /v1/orders/{order_id}"}
SCOPED_FRAMES = {"hello", "heartbeat", "watch"}

# What an API key gets where it is not what a token of its role gets: sockets take no keys.
KEYS = {"POST /v1/tokens": {"integrator": "201", "merchant": "403", "operator": "201"}}
