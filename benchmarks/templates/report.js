"use strict";
(() => {
  const pictures = JSON.parse(document.getElementById("pictures").textContent);
  const visible = (node) => !node.closest("[hidden], details:not([open])");
  const load = (image) => {
    const url = pictures[image.dataset.picture];
    if (url && image.getAttribute("src") !== url) image.src = url;
  };
  const fill = (all) => document.querySelectorAll("img[data-picture]").forEach((image) => {
    if (all || visible(image)) load(image);
  });
  const put = (image, key, alt) => {
    image.dataset.picture = key;
    image.alt = alt;
    load(image);
  };

  document.querySelectorAll(".compare").forEach((box) => {
    const stage = box.querySelector(".stage");
    const range = box.querySelector("input[type=range]");
    const sides = ["left", "right"].map((side) => ({
      select: box.querySelector(`select[name=${side}]`),
      image: stage.querySelector(`img.${side}`),
      tag: stage.querySelector(`.tag.${side}`),
    }));
    const label = (side) => side.select.selectedOptions[0].textContent;
    const say = () => {
      stage.style.setProperty("--at", `${range.value}%`);
      range.setAttribute("aria-valuetext",
        `${range.value} % of ${label(sides[0])}, the rest ${label(sides[1])}`);
    };
    const choose = () => {
      sides.forEach((side) => {
        const option = side.select.selectedOptions[0];
        put(side.image, option.value, option.dataset.alt);
        side.tag.textContent = label(side);
      });
      say();
    };
    const follow = (event) => {
      const place = stage.getBoundingClientRect();
      const share = (event.clientX - place.left) / place.width;
      range.value = Math.round(100 * Math.min(1, Math.max(0, share)));
      say();
    };
    range.addEventListener("input", say);
    sides.forEach((side) => side.select.addEventListener("change", choose));
    stage.addEventListener("pointerdown", (event) => {
      stage.setPointerCapture(event.pointerId);
      follow(event);
    });
    stage.addEventListener("pointermove", (event) => {
      if (stage.hasPointerCapture(event.pointerId)) follow(event);
    });
    say();
  });

  document.querySelectorAll("select[name=heat]").forEach((select) => {
    const box = select.closest(".errors");
    select.addEventListener("change", () => {
      const option = select.selectedOptions[0];
      put(box.querySelector(".heat img"), option.value, option.dataset.alt);
      box.querySelector(".least").textContent = `\u2212${option.dataset.full}`;
      box.querySelector(".most").textContent = `+${option.dataset.full}`;
    });
  });

  document.querySelectorAll(".picks").forEach((picks) => picks.addEventListener("change", (event) => {
    picks.parentElement.querySelectorAll(".exhibit").forEach((exhibit) => {
      exhibit.hidden = exhibit.id !== event.target.value;
    });
    fill(false);
  }));

  document.querySelectorAll("details").forEach((one) => one.addEventListener("toggle", () => fill(false)));
  const openTarget = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.matches("details")) {
      target.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", openTarget);
  addEventListener("beforeprint", () => fill(true));
  openTarget();
  fill(false);
})();
