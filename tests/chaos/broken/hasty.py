"""`hexrun` whose gateway acknowledges fixes before they are on the disk."""

import asyncio

from api.cli import main
from api.segments import Ref, SegmentWriter

honest = SegmentWriter.append


def append(self, *args, **kwargs):
    honest(self, *args, **kwargs)
    answered = asyncio.get_running_loop().create_future()
    answered.set_result(Ref("hasty-1.seg", 0, 0))
    return answered


SegmentWriter.append = append
main()
