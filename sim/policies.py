"""Policy files: YAML with any of the keys of `dispatch.policy.Policy`, laid over another policy.

May import the reading of scenarios; a policy that is read is valid.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from dispatch.policy import Policy
from geo.errors import InvalidValue, MissingFile
from sim.scenario import first_wrong, read_yaml, utf8_text


def read_policy(path: Path, base: Policy) -> Policy:
    """`base` with what the file says otherwise; called after the file unless that has a `version`.

    Raises MissingFile, UnknownKey for a key that nothing reads, and InvalidValue for a wrong value;
    both name the file and the key.
    """
    if not path.is_file():
        raise MissingFile(str(path), "the policy")
    found = read_yaml(utf8_text(path), str(path))
    return policy_over(base, {} if found is None else found, str(path), path.stem)


def policy_over(base: Policy, found: object, source: str, version: str) -> Policy:
    """As `read_policy`, of what was read already from `source`."""
    if not isinstance(found, dict):
        raise InvalidValue(source, found, "a mapping of policy keys to values")
    whole = asdict(base) | {"version": version} | {str(key): v for key, v in found.items()}
    try:
        # Strictly, as in scenarios: neither "5" nor 5.0 nor true is the number 5.
        return _adapter().validate_json(json.dumps(whole, default=str), strict=True)
    except ValidationError as error:
        wrong = first_wrong(error, Policy)
        name = wrong.field.removeprefix("policy.")
        raise type(wrong)(f"{source}: {name}", wrong.value, wrong.expected) from None
    except InvalidValue as wrong:
        name = wrong.field.removeprefix("policy.")
        raise InvalidValue(f"{source}: {name}", wrong.value, wrong.expected) from None


@cache
def _adapter() -> TypeAdapter[Policy]:
    return TypeAdapter(Policy)
