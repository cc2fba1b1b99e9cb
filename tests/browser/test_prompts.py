"""A prompt in the browser: written with a live preview, run in place, tested, released, compared and rolled back."""

import json
import re
import urllib.request
from collections import Counter
from collections.abc import Iterator
from itertools import chain, count, filterfalse, islice

import pytest
from playwright.sync_api import Page, expect

from billing.models import UsageRecord
from keys.models import Customer
from prompts.models import Label, LabelMove, Prompt, PromptVersion
from prompts.rollout import is_in_rollout
from tests.browser.conftest import Browser
from tests.factories import make_customer, make_key, make_model, make_upstream
from tests.upstream import Behaviour, ScriptedUpstream

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def submit_twice(page: Page) -> None:
    """Send a form page and confirm what it then asks."""
    page.click("button[name=_act]")
    page.wait_for_selector(".tk-facts")
    page.click("button[name=_act]")


def publish(page: Page, note: str) -> None:
    page.click("button[name=_publish]")
    page.fill("#id_note", note)
    submit_twice(page)
    page.wait_for_selector("#prompt-releases")


def move(browser: Browser, prompt: Prompt, percent: int) -> Page:
    page = browser.open(f"prompts/prompt/{prompt.pk}/move/")
    page.check(f"input[name=percent][value='{percent}']")
    page.fill("#id_reason", "better answers")
    submit_twice(page)
    page.wait_for_selector("#prompt-releases")
    return page


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as started:
        yield started


def call_prompt(browser: Browser, token: str, session: int) -> str:
    """Run the prompt as a customer's session; return the version that answered."""
    body = json.dumps({"inputs": {"name": "Ada"}, "session_id": f"session-{session}"}).encode()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    sent = urllib.request.Request(f"{browser.base_url}/v1/prompts/mail/runs", data=body, headers=headers)
    with urllib.request.urlopen(sent, timeout=30) as answer:
        return str(json.load(answer)["prompt"]["version"])


def sessions_of_a_rollout(customer: Customer, *, percent: int) -> list[int]:
    """Return the numbers of twenty sessions of which four are asked for the new version; no luck is needed for it."""

    def is_in(session: int) -> bool:
        return is_in_rollout(
            prompt="mail",
            label="production",
            number="1.0.1",
            percent=percent,
            customer_id=customer.pk,
            session_id=f"session-{session}",
        )

    chosen = islice(filter(is_in, count()), 4), islice(filterfalse(is_in, count()), 16)
    return list(chain(*chosen))


def write_draft(page: Page, model: str) -> None:
    page.locator("#messages textarea").fill("Answer {{ name }} {% if %}")
    expect(page.locator("#preview-problem")).to_contain_text("messages")
    page.locator("#messages textarea").fill("Answer {{ name }}.")
    expect(page.locator("#preview-messages")).to_contain_text("Answer some name.")
    expect(page.locator("#preview-problem")).to_be_hidden()
    expect(page.locator("#preview-size")).to_contain_text("tokens")
    expect(page.locator("#messages .tk-value")).to_have_text("{{ name }}")
    page.fill("input[name=model]", "unheard-of")
    expect(page.locator("#preview-cost")).to_contain_text("No price of unheard-of is known")
    page.fill("input[name=model]", model)
    # 1 USD a million tokens of input, 4 USD of output, 256 of which it may give.
    expect(page.locator("#preview-cost")).to_contain_text(re.compile(r"about 0\.00000\d+ USD .* of 256 tokens"))
    page.click("#add-message")
    page.locator("#messages textarea").nth(1).fill("Be kind.")
    page.locator("#messages select").nth(1).select_option("system")
    page.locator("#messages [data-move=up]").nth(1).click()
    expect(page.locator(".tk-said")).to_have_count(2)


def run_in_place(page: Page, upstream: ScriptedUpstream, model: str) -> None:
    """Run the draft: streamed, stopped, refused, and with sample inputs of its own."""
    upstream.queue(Behaviour(text="one two three four five six", events=6, event_delay_seconds=0.3), target=model)
    page.fill("#sample-inputs", '{"name": "Grace"}')
    page.click("#try-start")
    expect(page.locator("#try-output")).to_contain_text("one two")
    expect(page.locator("#try-stop")).to_be_visible()
    expect(page.locator("#try-output")).to_have_text("one two three four five six")
    expect(page.locator("#try-bill")).to_contain_text("charged to nobody")
    page.fill("#sample-inputs", "{}")
    page.click("#try-start")
    expect(page.locator("#try-problem")).to_contain_text("name")
    page.fill("#sample-inputs", "")


def add_and_run_a_case(browser: Browser, prompt: Prompt) -> None:
    """Write a test case and run it on the first version."""
    page = browser.open(f"prompts/prompttestcase/add/?prompt={prompt.pk}")
    page.fill("#id_name", "Ada")
    page.fill("#id_inputs", '{"name": "Ada"}')
    page.fill("#id_checks", '[{"kind": "contains", "value": "amber"}]')
    page.click("button[name=_save]")
    page.wait_for_selector("#changelist")
    page = browser.open(f"prompts/promptversion/{PromptVersion.objects.get().pk}/test/")
    page.click("button[name=_act]")
    expect(page.locator("body")).to_contain_text("1 of 1 test cases passed.")


def test_a_prompt_is_written_tested_released_rolled_out_compared_and_rolled_back(
    browser: Browser, upstream: ScriptedUpstream
) -> None:
    model = make_model(upstream=make_upstream(base_url=upstream.base_url)).name
    customer = make_customer()
    token = make_key(customer).token
    page = browser.open("prompts/prompt/add/")
    page.fill("#id_name", "mail")
    page.click("button[name=_save]")
    page.wait_for_selector("#prompt-editor")
    prompt = Prompt.objects.get()
    write_draft(page, model)
    browser.faults.clear()
    run_in_place(page, upstream, model)
    # The one refusal was asked for.
    assert [fault for fault in browser.faults if "/try/" not in fault and "400" not in fault] == []
    browser.faults.clear()
    (tried,) = UsageRecord.objects.all()
    assert (tried.operation, tried.charged_nanousd, tried.cost_nanousd > 0) == ("prompts.tests", 0, True)
    publish(page, "first words")
    move(browser, prompt, 100)

    add_and_run_a_case(browser, prompt)

    page = browser.open(f"prompts/prompt/{prompt.pk}/editor/")
    page.locator("#messages textarea").nth(0).fill("Be kind and brief.")
    publish(page, "shorter")
    page = move(browser, prompt, 10)
    expect(page.locator("#label-production")).to_contain_text("10 % of callers get 1.0.1")
    answered = [call_prompt(browser, token, session) for session in sessions_of_a_rollout(customer, percent=10)]
    assert Counter(answered) == {"1.0.1": 4, "1.0.0": 16}

    page.get_by_role("link", name="Compare 1.0.0 and 1.0.1").click()
    expect(page.locator("ins")).to_have_text(" and brief")
    figures = page.locator("#compared-figures")
    for version in ("1.0.0", "1.0.1"):
        # The first figure is the number of calls; a later one may be as large.
        expect(figures.locator(f"svg[aria-label='{version}: {answered.count(version)}']").first).to_be_visible()
    expect(figures).to_contain_text("Latency, p95")
    expect(figures.locator("svg[aria-label='1.0.0: 100 % of 1']")).to_be_visible()

    page = browser.open(f"prompts/prompt/{prompt.pk}/releases/")
    page.get_by_role("link", name=re.compile("Roll back to 1.0.0")).click()
    page.fill("#id_reason", "too short")
    page.click("button[name=_act]")
    expect(page.locator("#label-production")).to_contain_text("All callers get 1.0.0")
    assert Label.objects.get().rollout_version_id is None
    assert list(LabelMove.objects.order_by("id").values_list("kind", flat=True)) == ["release", "rollout", "rollback"]
    assert {call_prompt(browser, token, session) for session in range(40)} == {"1.0.0"}
    for path in ("prompts/prompt/", "prompts/promptversion/", "prompts/prompttestcase/"):
        browser.open(path).wait_for_selector("#changelist")
    page = browser.open("")
    page.goto(f"{browser.base_url}/docs")
    expect(page.locator(".opblock-summary-path", has_text="/v1/prompts/mail/runs")).to_be_visible()
    assert browser.faults == []
