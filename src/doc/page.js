"use strict";
const search = document.getElementById("search");
const articles = [...document.querySelectorAll("article")].map(element => ({
    element, name: element.dataset.name, text: element.textContent.toLowerCase(),
    link: document.querySelector(`nav a[href="#${element.id}"]`).parentElement,
}));

// An entry stays while every word of the search is in it; where some are called like it, only those are left.
function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(word => word);
    const named = articles.filter(a => words.every(word => a.name.includes(word)));
    const found = new Set(named.length ? named : articles.filter(a => words.every(word => a.text.includes(word))));
    for (const article of articles) {
        article.element.hidden = article.link.hidden = !found.has(article);
    }
    for (const group of document.querySelectorAll("main section, nav details")) {
        group.hidden = !group.querySelector("article:not([hidden]), li:not([hidden])");
    }
    document.getElementById("nothing").hidden = found.size > 0;
}

search.addEventListener("input", filter);
document.addEventListener("keydown", event => {
    if (event.key === "/" && document.activeElement !== search) {
        event.preventDefault();
        search.focus();
    } else if (event.key === "Escape" && document.activeElement === search) {
        search.value = "";
        filter();
    } else if (event.key === "Enter" && document.activeElement === search) {
        const first = articles.find(a => !a.element.hidden);
        if (first) {
            location.hash = first.element.id;
        }
    }
});

// A link to an entry that the search hides shows everything again.
window.addEventListener("hashchange", () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.hidden) {
        search.value = "";
        filter();
        target.scrollIntoView();
    }
});

document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
});
