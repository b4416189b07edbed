"""The page of report.py in a real Chromium without a network: plots, boxes, zoom, dark colours, phone, keyboard."""

import contextlib
import json

import pytest
from PIL import Image

# Fast tests are collected without requirements-test.txt. Without it these tests fail.
with contextlib.suppress(ImportError):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.wait import WebDriverWait

import report
from helpers.analysed_runs import write_sweep_rows
from helpers.run_files import write_run

pytestmark = [pytest.mark.slow, pytest.mark.browser]
EVIL = "<img src=x onerror=window.broken=1>"


@pytest.fixture(scope="module")
def page_address(tmp_path_factory):
    """Write the page of two networks with three seeds each on two environments; return its address.

    A setting of one network tries to run a script.
    """
    folder = tmp_path_factory.mktemp("report")
    for env in ("Pong", "Breakout"):
        for network, init_from in (("DRQN", None), ("DQN", EVIL)):
            for seed in range(3):
                run = write_run(
                    folder / "runs" / f"{env}-{network}-{seed}", [(100, (1, seed)), (200, (seed, 4))], env=env,
                    network=network, init_from=init_from, seed=seed, fresh=(seed, 4), random=(0, 1),
                    episodes=[(99, 1), (200, 2)])
                write_sweep_rows(run, f"agent,best,0.5,0,{seed + 1},9,0.05,0", "agent,best,1.0,0,5,9,0.05,0",
                                 "random,random,1.0,0,2,9,1.0,0")
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue")]
    frames[0].save(run / "film.gif", save_all=True, append_images=frames[1:], duration=100, loop=0)
    assert report.main([str(folder / "runs"), "-o", str(folder / "report.html")]) == 0
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def chromium():
    options = webdriver.ChromeOptions()
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # Without the path Selenium would look for a driver to download.
    driver = webdriver.Chrome(options, Service("/usr/bin/chromedriver"))
    driver.execute_cdp_cmd("Network.enable", {})
    offline = dict(offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium, page_address):
    """Return a driver that shows the page as on a desktop with light colours, after every plot is drawn."""
    set_look(chromium)
    chromium.get(page_address)
    chromium.execute_script("plots.forEach(begin)")
    WebDriverWait(chromium, 10).until(lambda driver: driver.execute_script(
        "return plots.length === 7 && plots.every(div => div.querySelector('.scatterlayer .trace'))"))
    return chromium


def set_look(driver, scheme="light", width=1280, height=900):
    """Give the browser a colour scheme, and a screen of this size in pixels."""
    features = [dict(name="prefers-color-scheme", value=scheme)]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    screen = dict(width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def count_lines(browser, plot=0):
    """Return how many lines and bands a plot shows."""
    return browser.execute_script(f"return plots[{plot}].querySelectorAll('.scatterlayer .trace').length")


def test_every_curve_is_drawn_and_nothing_is_asked_of_the_network(browser):
    # Each of two networks has a band, three seeds and a mean. Beside them is random play, or the paper's two curves.
    assert [count_lines(browser, i) for i in range(4)] == [2 * 5 + 1] * 4
    assert [count_lines(browser, i) for i in (4, 5)] == [2 * 5 + 2] * 2
    assert count_lines(browser, 6) == 2 + 2  # the means over both environments
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert urls and not [url for url in urls if not url.startswith(("file:", "data:", "blob:"))]
    # The means of 2, 2.5 and 3; and of 1, 2 and 3 as fractions of 5.
    for plot, point, text in ((0, 1, "2.50 at 200"), (4, 0, "0.40 at 0.5")):
        browser.execute_script(f"""const isMean = trace => trace.meta.kind === "mean" && trace.name.startsWith("DQN");
            const curveNumber = plots[{plot}].data.findIndex(isMean);
            Plotly.Fx.hover(plots[{plot}], [{{curveNumber, pointNumber: {point}}}])""")
        hover_text = browser.execute_script(f"return plots[{plot}].querySelector('.hoverlayer').textContent")
        assert text in hover_text, hover_text
    assert browser.execute_script("return window.broken") is None
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_boxes_and_buttons_hide_curves_in_every_plot(browser):
    box = browser.find_element(By.CSS_SELECTOR, "input[value^='DQN']")
    box.click()
    assert [count_lines(browser, i) for i in (0, 3)] == [6, 6]
    browser.find_element(By.ID, "seeds").click()
    assert count_lines(browser) == 3
    browser.find_element(By.ID, "none").click()
    assert count_lines(browser) == 1 and not box.is_selected()  # Random play stays.
    browser.find_element(By.ID, "all").click()
    assert count_lines(browser) == 5 and box.is_selected()


def test_zoom_and_back(browser):
    limits = lambda: browser.execute_script("return [...plots[0]._fullLayout.xaxis.range]")
    before = limits()
    browser.execute_script("plots[0].scrollIntoView({block: 'center'})")
    zoom_in = ".plot .modebar-btn[data-attr='zoom'][data-val='in'], .plot [aria-label='Zoom in']"
    browser.find_element(By.CSS_SELECTOR, zoom_in).click()
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
    set_look(browser, "dark")
    WebDriverWait(browser, 5).until(lambda _: browser.execute_script(colours)[3] != light[3])
    dark = browser.execute_script(colours)
    assert all(a != b for a, b in zip(light, dark)), (light, dark)
    brightness = lambda colour: sum(map(float, colour[colour.index("(") + 1:-1].split(",")[:3]))
    assert brightness(dark[0]) < 150 < 600 < brightness(dark[1]) and brightness(dark[3]) > 600


def test_a_phone_scrolls_down_only(browser):
    set_look(browser, width=390, height=844)
    are_narrow = "return plots.every(div => div._fullLayout.width <= 390)"
    WebDriverWait(browser, 5).until(lambda _: browser.execute_script(are_narrow))
    browser.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    widths = "return [...document.querySelectorAll('.scroll')].map(box => [box.clientWidth, box.scrollWidth])"
    boxes = browser.execute_script(widths)
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
            assert count_lines(browser) == 6
    names, outlines = zip(*reached)
    assert names[0] == "skip" and {"all", "none", "reset", "seeds", "scroll", "SUMMARY", "modebar-btn"} <= set(names)
    assert any(name.startswith("DQN") for name in names) and set(outlines) == {"solid"}


def test_a_gif_can_be_paused(browser):
    film, still = (browser.find_element(By.CSS_SELECTOR, f"figure {tag}") for tag in ("img.film", "canvas"))
    button = browser.find_element(By.CSS_SELECTOR, "img.film ~ button")
    look = lambda: (film.is_displayed(), still.is_displayed(), button.text)
    assert look() == (True, False, "Pause")
    button.click()
    assert look() == (False, True, "Play")
    assert browser.execute_script("return [arguments[0].width, arguments[0].height]", still) == [6, 4]
    button.click()
    assert look() == (True, False, "Pause")


def test_a_link_opens_the_commands_and_a_button_copies_them(browser):
    browser.find_element(By.CSS_SELECTOR, "th a").click()
    card = browser.find_element(By.ID, "experiment-1")
    WebDriverWait(browser, 5).until(lambda _: card.get_attribute("open"))
    browser.execute_script("navigator.clipboard.writeText = async text => { window.copied = text; }")
    card.find_element(By.CSS_SELECTOR, "button").click()
    WebDriverWait(browser, 5).until(lambda _: browser.find_element(By.ID, "said").text == "Copied")
    assert browser.execute_script("return window.copied") == card.find_element(By.TAG_NAME, "pre").text
