import asyncio

import pytest

from billing.models import Account
from gateway.admission.commands import Admitted
from tests.factories import funded_call


async def test_x(clerk, off_loop):
    call = await off_loop(funded_call, credit_nanousd=10_000_000)
    answers = await asyncio.gather(*[clerk.submit(call.admit()) for _ in range(200)])
    assert sum(isinstance(a, Admitted) for a in answers) == 10


@pytest.mark.django_db(transaction=True)
def test_y():
    assert Account.objects.count() == 0
    funded_call()


def test_z(transactional_db):
    assert Account.objects.count() == 0
    funded_call()
