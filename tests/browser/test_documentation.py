"""The API's own page: whoever authorizes sees what the key may do."""

import pytest

from tests.browser.conftest import Browser
from tests.factories import make_key
from tests.prompting import make_released

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_after_authorizing_the_page_shows_the_prompts_of_the_key(browser: Browser) -> None:
    make_released("mail")
    token = make_key(allowed_prompts=["mail"]).token
    page = browser.page
    # Who is logged in to the admin would see all of them.
    page.context.clear_cookies()
    page.goto(f"{browser.base_url}/docs")
    page.wait_for_selector("[data-path='/v1/chat/completions']")
    assert page.locator("[data-path='/v1/prompts/mail/runs']").count() == 0
    page.click("button.authorize")
    page.fill(".auth-container input", token)
    page.click(".auth-btn-wrapper button.authorize")
    page.click(".auth-btn-wrapper button.btn-done")
    page.wait_for_selector("[data-path='/v1/prompts/mail/runs']")
    assert browser.faults == []
