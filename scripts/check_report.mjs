// Opens a report in Chromium and checks what only a browser can: filters work, tasks open and are drawn, the page
// opens in time and is small enough, nothing is written to the console, and no request leaves the page.
//
//   npm install --no-save playwright-core
//   node scripts/check_report.mjs runs/mine/report.html [pictures/]
//
// CHROMIUM names the browser [default: /usr/bin/chromium]. With a folder, it also keeps screenshots at three widths in
// both themes. Exit code 1 if a check fails.
import { mkdirSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [file, pictures] = process.argv.slice(2);
if (!file) {
  console.error("usage: node scripts/check_report.mjs REPORT.html [PICTURES/]");
  process.exit(2);
}
const address = pathToFileURL(resolve(file)).href;
const OPENING_MS = 2000;
const SIZE_MB = 15;
const WIDTHS = [390, 820, 1400];

let failures = 0;
function check(holds, what) {
  console.log(`${holds ? "ok  " : "FAIL"}  ${what}`);
  failures += holds ? 0 : 1;
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
});
const messages = [];
const requests = [];

/// A new page that keeps what it complains of and asks for.
async function open(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("console", (message) => messages.push(message.text()));
  page.on("pageerror", (error) => messages.push(String(error)));
  page.on("request", (request) => requests.push(request.url()));
  await page.goto(address);
  return page;
}

const megabytes = statSync(file).size / 1e6;
check(megabytes < SIZE_MB, `${megabytes.toFixed(1)} MB, of ${SIZE_MB}`);

try {
  const page = await open({ viewport: { width: 1400, height: 900 } });
  // Loaded, and painted once.
  const took = await page.evaluate(() => new Promise((done) => {
    requestAnimationFrame(() => setTimeout(() => done(performance.now()), 0));
  }));
  check(took < OPENING_MS, `opens in ${Math.round(took)} ms, of ${OPENING_MS}`);

  const visible = () => page.locator(".card:not([hidden])").count();
  const all = await visible();
  check(all > 0, `${all} tasks`);
  for (const chip of await page.locator("[data-filter]").all()) {
    const [name, wanted] = [await chip.innerText(), Number(await chip.locator(".n").innerText())];
    await chip.click();
    check((await visible()) === wanted, `filter "${name.replace(/\s*(\d+)$/, " $1")}" leaves ${wanted}`);
  }
  await page.locator('[data-filter="all"]').click();
  // What a search must leave is counted here, from the ids alone.
  const idsOf = (cards) => cards.evaluateAll((nodes) => nodes.map((node) => node.dataset.id));
  const ids = await idsOf(page.locator(".card"));
  const last = ids[ids.length - 1];
  for (const wanted of [last, last.slice(0, 4), last.slice(-3).toUpperCase(), ` ${last} `]) {
    await page.locator("#search").fill(wanted);
    const expected = ids.filter((id) => id.toLowerCase().includes(wanted.trim().toLowerCase()));
    const found = await idsOf(page.locator(".card:not([hidden])"));
    check(found.join() === expected.join(), `search for "${wanted}" leaves ${expected.length} of ${all}`);
  }
  await page.locator("#search").fill("no such task");
  check((await visible()) === 0 && (await page.locator("#none").isVisible()), "search finds nothing where nothing is");
  await page.locator("#search").fill("");
  for (const value of ["agreement", "seconds", "size", "order"]) await page.locator("#sort").selectOption(value);
  check((await page.locator(".card").first().getAttribute("data-task")) === "0", "sorting comes back to the run's order");

  const few = Math.min(all, 5);
  for (let i = 0; i < few; i++) {
    const card = page.locator(".card").nth(i);
    await card.locator("summary").first().click();
    await card.locator(".body canvas").nth(2).waitFor({ timeout: 2000 }).catch(() => {});
    check((await card.locator(".body canvas").count()) >= 3, `task ${i + 1} opens with its grids`);
  }
  check((await page.locator(".card").first().locator(".thumbs canvas").count()) > 0, "cards have their pictures");
  await page.locator("#digits").check();
  await page.locator("#digits").uncheck();
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const before = await ground();
  await page.locator("#theme").click();
  check((await ground()) !== before, "the switch changes the theme");

  for (const width of WIDTHS) {
    for (const colorScheme of ["light", "dark"]) {
      const page = await open({ viewport: { width, height: 900 }, colorScheme });
      const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      await page.locator(".card summary").first().click();
      check((await overflow()) <= 0, `nothing sticks out at ${width} px, ${colorScheme}`);
      if (pictures) {
        mkdirSync(pictures, { recursive: true });
        await page.screenshot({ path: `${pictures}/${width}-${colorScheme}.png` });
        await page.locator("#gallery").scrollIntoViewIfNeeded();
        await page.screenshot({ path: `${pictures}/${width}-${colorScheme}-whole.png`, fullPage: true });
      }
      await page.context().close();
    }
  }
  const others = requests.filter((url) => url !== address);
  check(others.length === 0, `no request leaves the page${others.map((url) => ` (${url})`)}`);
  check(messages.length === 0, `nothing on the console${messages.map((text) => ` (${text})`)}`);
} finally {
  await browser.close();
}
process.exit(failures > 0 ? 1 : 0);
