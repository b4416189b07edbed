"""The page of a report in a real Chromium without a network: it draws, hides, zooms, turns dark, fits a phone and obeys the keyboard."""

import contextlib
import json

import pytest

with contextlib.suppress(ImportError):  # Fast tests are collected without requirements-test.txt; these here fail without it.
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.wait import WebDriverWait

from helpers.run_files import write_run

import report

pytestmark = pytest.mark.slow
SWEEP = "policy,weights,observation_probability,episode,episode_return,length,epsilon,eval_seed"
EVIL = "DQN<img src=x onerror=window.broken=1>"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Write a report of two networks, one of them with an evil name, with three seeds each on two environments; return its address."""
    folder = tmp_path_factory.mktemp("report")
    for env in ("Pong", "Breakout"):
        for network in ("DRQN", EVIL):
            for seed in range(3):
                run = write_run(folder / "runs" / f"{env}-{network[:4]}-{seed}", [(100, (1, seed)), (200, (seed, 4))], env=env,
                               network=network, seed=seed, fresh=(seed, 4), random=(0, 1), episodes=[(99, 1, 0), (200, 2, 0)])
                rows = [SWEEP, f"agent,best,0.5,0,{seed + 1},9,0.05,0", "agent,best,1.0,0,5,9,0.05,0", "random,random,1.0,0,2,9,1.0,0"]
                (run / "observability.csv").write_text("\n".join(rows) + "\n")
    assert report.main([str(folder / "runs"), "-o", str(folder / "report.html")]) == 0
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def chromium():
    options = webdriver.ChromeOptions()
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service("/usr/bin/chromedriver"))  # by its path, or Selenium would look for one to download
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", dict(offline=True, latency=0, downloadThroughput=0, uploadThroughput=0))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium, page):
    """Return a driver that shows the page, every plot of it drawn, as on a light desktop."""
    look(chromium)
    chromium.get(page)
    chromium.execute_script("plots.forEach(begin)")
    WebDriverWait(chromium, 10).until(lambda driver: driver.execute_script(
        "return plots.length === 7 && plots.every(div => div.querySelector('.scatterlayer .trace'))"))
    return chromium


def look(driver, scheme="light", width=1280, height=900):
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [dict(name="prefers-color-scheme", value=scheme)]})
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", dict(width=width, height=height, deviceScaleFactor=1, mobile=width < 500))


def count(browser, plot=0):
    """Return how many lines, bands among them, a plot shows."""
    return browser.execute_script(f"return plots[{plot}].querySelectorAll('.scatterlayer .trace').length")


def test_every_curve_is_drawn_and_nothing_is_asked_of_the_network(browser):
    # Of two networks in each plot a band, three seeds and a mean; and random play, or the paper's two curves.
    assert [count(browser, i) for i in range(4)] == [2 * 5 + 1] * 4 and [count(browser, i) for i in (4, 5)] == [2 * 5 + 2] * 2
    assert count(browser, 6) == 2 + 2  # the means over both environments
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [one["params"]["request"]["url"] for one in asked if one["method"] == "Network.requestWillBeSent"]
    assert urls and not [url for url in urls if not url.startswith(("file:", "data:", "blob:"))]
    for plot, point, text in ((0, 1, "2.50 at 200"), (4, 0, "0.40 at 0.5")):  # the means of 2, 2.5, 3; of 1, 2, 3 of 5
        browser.execute_script(f"""const isMean = one => one.meta.kind === "mean" && one.name.startsWith("DQN");
            Plotly.Fx.hover(plots[{plot}], [{{curveNumber: plots[{plot}].data.findIndex(isMean), pointNumber: {point}}}])""")
        told = browser.execute_script(f"return plots[{plot}].querySelector('.hoverlayer').textContent")
        assert text in told, told
    assert browser.execute_script("return window.broken") is None
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_boxes_and_buttons_hide_curves_in_every_plot(browser):
    box = browser.find_element(By.CSS_SELECTOR, "input[value^='DQN']")
    box.click()
    assert [count(browser, i) for i in (0, 3)] == [6, 6]
    browser.find_element(By.ID, "seeds").click()
    assert count(browser) == 3
    browser.find_element(By.ID, "none").click()
    assert count(browser) == 1 and not box.is_selected()  # random play stays
    browser.find_element(By.ID, "all").click()
    assert count(browser) == 5 and box.is_selected()


def test_zoom_and_back(browser):
    limits = lambda: browser.execute_script("return [...plots[0]._fullLayout.xaxis.range]")
    before = limits()
    browser.execute_script("plots[0].scrollIntoView({block: 'center'})")
    browser.find_element(By.CSS_SELECTOR, ".plot .modebar-btn[data-attr='zoom'][data-val='in'], .plot [aria-label='Zoom in']").click()
    WebDriverWait(browser, 5).until(lambda _: limits()[1] < before[1])
    inside = limits()
    browser.find_element(By.ID, "seeds").click()
    assert limits() == inside  # Hiding lines leaves the zoom.
    browser.find_element(By.ID, "reset").click()
    WebDriverWait(browser, 5).until(lambda _: limits() == before)


def test_dark_is_dark_and_plots_follow(browser):
    colours = """const style = (of, name) => getComputedStyle(document.querySelector(of))[name];
        return [style('body', 'backgroundColor'), style('body', 'color'), style('.plot .js-line', 'stroke'),
                style('.plot .xtick text', 'fill'), style('.swatch line', 'stroke')]"""
    light = browser.execute_script(colours)
    look(browser, "dark")
    WebDriverWait(browser, 5).until(lambda _: browser.execute_script(colours)[3] != light[3])
    dark = browser.execute_script(colours)
    assert all(a != b for a, b in zip(light, dark)), (light, dark)
    brightness = lambda colour: sum(map(float, colour[colour.index("(") + 1:-1].split(",")[:3]))
    assert brightness(dark[0]) < 150 < 600 < brightness(dark[1]) and brightness(dark[3]) > 600


def test_a_phone_scrolls_down_only(browser):
    look(browser, width=390, height=844)
    WebDriverWait(browser, 5).until(lambda _: browser.execute_script("return plots.every(div => div._fullLayout.width <= 390)"))
    browser.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    boxes = browser.execute_script("return [...document.querySelectorAll('.scroll')].map(box => [box.clientWidth, box.scrollWidth])")
    assert all(width < 390 for width, _ in boxes) and any(inside > width for width, inside in boxes)


def test_the_keyboard_reaches_everything(browser):
    body, reached = browser.find_element(By.TAG_NAME, "body"), []
    focus = """const one = document.activeElement;
        return [one.id || one.value || one.className || one.tagName, getComputedStyle(one).outlineStyle]"""
    for _ in range(60):
        (browser.switch_to.active_element or body).send_keys(Keys.TAB)
        reached.append(browser.execute_script(focus))
        if reached[-1][0].startswith("DRQN"):  # The space bar hides a curve.
            browser.switch_to.active_element.send_keys(Keys.SPACE)
            assert count(browser) == 6
    names, outlines = zip(*reached)
    assert names[0] == "skip" and {"all", "none", "reset", "seeds", "scroll", "SUMMARY", "modebar-btn"} <= set(names)
    assert any(name.startswith("DQN") for name in names) and set(outlines) == {"solid"}


def test_a_link_opens_the_commands_and_a_button_copies_them(browser):
    browser.find_element(By.CSS_SELECTOR, "th a").click()
    card = browser.find_element(By.ID, "experiment-1")
    WebDriverWait(browser, 5).until(lambda _: card.get_attribute("open"))
    browser.execute_script("navigator.clipboard.writeText = async text => { window.copied = text; }")
    card.find_element(By.CSS_SELECTOR, "button").click()
    WebDriverWait(browser, 5).until(lambda _: browser.find_element(By.ID, "said").text == "Copied")
    assert browser.execute_script("return window.copied") == card.find_element(By.TAG_NAME, "pre").text
