"""Make a MongoDB server the only member of a replica set: `initiate.py HOST:PORT NAME`.

Does nothing when it is a member already. Exit code 0 when it is one in the end; else whoever started this
tries again.
"""

import sys
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

# "AlreadyInitialized", from the table of MongoDB's error codes.
ALREADY_INITIALIZED = 23


def main(host: str, name: str) -> int:
    """Initiate the set, and return the exit code."""
    config: dict[str, Any] = {"_id": name, "members": [{"_id": 0, "host": host}]}
    try:
        client: MongoClient[Any]
        with MongoClient(host, directConnection=True, serverSelectionTimeoutMS=30_000) as client:
            client.admin.command("replSetInitiate", config)
    except OperationFailure as error:
        if error.code == ALREADY_INITIALIZED:
            print(f"{host} is a member of a replica set already")
            return 0
        print(f"{host} refused: {error}")
        return 1
    except PyMongoError as error:
        print(f"{host} was not reached: {error}")
        return 1
    print(f"{host} is the replica set {name} now")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
