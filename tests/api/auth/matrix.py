# ruff: noqa: E501 - the rows are wide so that the table can be read
"""Who may do what: every route and every frame, by role and by whose object it is.

`own` is the asker's, `another's` of the same tenant, `tenant` another tenant's, `city` another
city's. Each cell has the status of customer, merchant, rider, operator and integrator, in this
order; `.` where there is no such object. A route or a frame without a row fails the test.
"""

ROLES = ("customer", "merchant", "rider", "operator", "integrator")
WHOSE = ("own", "another's", "tenant", "city")

NOBODY = "403 403 403 403 403"
OPERATOR = "403 403 403 200 403"
BUYERS = "200 200 403 200 200"
RIDER = "4403 4403 ok 4403 4403"
REFUSED = "4403 4403 no 4403 4403"

# fmt: off
ROUTES = {
    #                                     own                    another's              tenant                 city
    "POST /v1/quotes":                   (BUYERS,                "422 422 403 200 200", ".",                   "."),
    "POST /v1/orders":                   ("201 201 403 201 201", "422 422 403 201 201", ".",                   "."),
    "GET /v1/orders/{order_id}":         ("200 200 200 200 200", "403 403 403 200 200", NOBODY,                NOBODY),
    "POST /v1/orders/{order_id}/cancel": (BUYERS,                "403 403 403 200 200", NOBODY,                NOBODY),
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
}

# No token needed, and nothing of anybody's told.
PUBLIC = {
    "GET /livez", "GET /readyz", "GET /openapi.json",
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
    "stop":       (RIDER,                           REFUSED,                  REFUSED,            REFUSED),
    "watch":      ("order order 4403 order order",  "no no 4403 order order", "no no 4403 no no", "no no 4403 no no"),
    "watch_city": ("4403 4403 4403 city 4403",      ".",                      ".",                "."),
}
# fmt: on

# What a token that is scoped to orders may ask for.
SCOPED_ROUTES = {"GET /v1/orders/{order_id}"}
SCOPED_FRAMES = {"hello", "heartbeat", "watch"}
